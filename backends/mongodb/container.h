// Containers in MongoDB, for people to look into with any client. Of a URI's database ("stmd" if it names
// none):
//   refs:  {_id: "/accounts/7@STAMP", name: "/accounts/7", stamp: "STAMP", value: ...}    one a ref and stamp
//   atoms: {_id: "/config", version: 12, value: ...}                                      a copy of each atom
// bson.h says how values are written. DESIGN.md says what holds, on which servers, and what a URI may say.
#ifndef STM_BACKENDS_MONGODB_CONTAINER_H_
#define STM_BACKENDS_MONGODB_CONTAINER_H_

#include <string>

#include "absl/status/statusor.h"
#include "backends/containers/container.h"

namespace stm::mongodb {

// Both kinds, on one pool of connections (a call has one to itself; there are maxPoolSize of the URI at most,
// else 64): "mongodb://user:password@host1,host2/database?replicaSet=rs0&tls=true". Connects to nothing yet:
// a server that is down is UNAVAILABLE to those who call. INVALID_ARGUMENT: a URI that is none, or that asks
// for less than a majority; it is not in the message, since it may hold a password.
absl::StatusOr<containers::Container> OpenContainer(const std::string& uri);

}  // namespace stm::mongodb

#endif  // STM_BACKENDS_MONGODB_CONTAINER_H_
