// The version of stmctl, as stmd's: one project, one number.
#ifndef STM_CLIENT_CLI_VERSION_H_
#define STM_CLIENT_CLI_VERSION_H_

namespace stm::cli {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_VERSION_H_
