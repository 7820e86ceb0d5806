// A Procedure is a change that the daemon's own services make, worked out at the commit point over the
// entries as they are there: it conflicts with nobody, and what it decided is what is committed. Locks and
// sessions are made of procedures (engine/locks). The log has what came out, never the procedure, so one may
// change from release to release.
#ifndef STM_ENGINE_PROCEDURE_H_
#define STM_ENGINE_PROCEDURE_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/values/value.h"

namespace stm::engine {

struct Definition;

// Entries, as a procedure sees and changes them. Lives for one run.
class EntryView {
 public:
  virtual ~EntryView() = default;
  // As it is after the changes made so far; nullopt: absent. Beside a store also of an entry that is not
  // known here yet: then the run counts for nothing and comes again once it is.
  virtual std::optional<Value> Get(std::string_view name) = 0;
  // The session that the entry is bound to as it is now, "": none.
  virtual std::string SessionOf(std::string_view name) = 0;
  // `definition`: of an entry that is absent; null: defaults.
  virtual void Set(std::string_view name, Value value,
                   std::shared_ptr<const Definition> definition = nullptr) = 0;
  virtual void Delete(std::string_view name) = 0;
  // EDN bytes of what was set so far, and how many entries were changed.
  virtual int64_t bytes() const = 0;
  virtual int64_t entries() const = 0;
  // The newest version that is installed: at least that of every commit that was acknowledged before, here.
  virtual int64_t version() const = 0;
  // What the commit's moment will be, or just before it.
  virtual Instant now() const = 0;
};

class Procedure {
 public:
  virtual ~Procedure() = default;
  // Entries that a run is going to look at: beside a store they are loaded before. Others are found out as it
  // goes.
  virtual std::vector<std::string> Names() const = 0;
  // Pure: the same over the same entries; may run several times. The value is Committed.results' only one, or
  // Unchanged.result when nothing was changed. An error refuses the transaction, whatever was changed.
  virtual absl::StatusOr<Value> Run(EntryView* view) const = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_PROCEDURE_H_
