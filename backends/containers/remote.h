// A container that is asked by gRPC: whoever serves stm.v1.ContainerService keeps refs, and atoms with
// stm.v1.AtomContainerService (proto/stm/v1/container_service.proto), in any language.
#ifndef STM_BACKENDS_CONTAINERS_REMOTE_H_
#define STM_BACKENDS_CONTAINERS_REMOTE_H_

#include <string>

#include "absl/status/statusor.h"
#include "backends/containers/container.h"
#include "backends/containers/registry.h"

namespace stm::containers {

// grpc://HOST:PORT, or grpcs://HOST:PORT: by TLS, with the certificates that the system trusts or those of
// ?ca=FILE. ?connections=N: 1 to 16, of 2 by default. A Factory. Connects when it is first asked, and again a
// second after it failed at the latest; until then it is UNAVAILABLE at once. Both kinds are there; asking a
// server for one that it does not serve is a FAILED_PRECONDITION that says so.
absl::StatusOr<Container> MakeRemote(const std::string& uri, const FactoryOptions& options = {});

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_REMOTE_H_
