// CRC-32C (Castagnoli), as iSCSI and the log's lines have it: by the processor's own instruction where there
// is one. Pure; any thread.
#ifndef STM_BACKENDS_LOCAL_CRC32C_H_
#define STM_BACKENDS_LOCAL_CRC32C_H_

#include <cstdint>
#include <string_view>

namespace stm::local {

// The sum of what `crc` sums with `data` behind it; 0: of nothing.
uint32_t ExtendCrc32c(uint32_t crc, std::string_view data);
inline uint32_t Crc32c(std::string_view data) { return ExtendCrc32c(0, data); }

// The same by tables alone: what processors without the instruction run.
uint32_t ExtendCrc32cPortable(uint32_t crc, std::string_view data);

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_CRC32C_H_
