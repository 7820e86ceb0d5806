package dev.stmd;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import stmd.v1.GetHistoryRequest;
import stmd.v1.GetHistoryResponse;
import stmd.v1.GetRefsRequest;
import stmd.v1.GetRefsResponse;
import stmd.v1.ReadPoint;
import stmd.v1.RefServiceGrpc;
import stmd.v1.Value;

/** What handles do outside transactions. */
final class Outside {
  private Outside() {}

  private static GetRefsResponse get(Handle<?> handle, boolean stale, boolean definition, Call call) {
    ClientCore core = handle.core;
    for (;;) {
      try {
        GetRefsResponse response = core.ask(out -> {
          ReadPoint.Builder at = ReadPoint.newBuilder().setSeen(core.position().seen());
          if (stale) at.setStale(true);
          out.setGet(GetRefsRequest.newBuilder().addNames(core.names().full(handle.name)).setAt(at)
              .setWithDefinition(definition));
        }, call).getGet();
        if (response.getEntriesCount() != 1) {
          throw Errors.internal(handle.name + ": the daemon's answer lacks it: report this");
        }
        return response;
      } catch (StoreChangedException changed) {
        // The new store is taken; nothing hangs on the old.
        if (call.cancelled()) throw Errors.cancelled();
      }
    }
  }

  /** Null: absent. */
  static Value read(Handle<?> handle, ReadOptions options) {
    Transaction.checkOutside("reading " + handle.name + " by its handle");
    Names.checkName(handle.name);
    GetRefsResponse response = get(handle, options.staleOk(), false, Call.until(options.timeout()));
    Wire.Found found = Wire.entry(response.getEntries(0), handle.core.names());
    if (found.value() != null && found.isAtom() != handle.isAtom) throw Errors.wrongKind(handle.name, found.isAtom());
    return found.value();
  }

  static Optional<Definition> definition(Handle<?> handle) {
    Transaction.checkOutside("reading " + handle.name + " by its handle");
    Names.checkName(handle.name);
    stmd.v1.Entry entry = get(handle, false, true, Call.until(null)).getEntries(0);
    if (Wire.entry(entry, handle.core.names()).value() == null) return Optional.empty();
    return Optional.of(Definition.of(entry.getDefinition(), handle.core.mapper(), handle.name));
  }

  static <R> R run(Handle<?> handle, String what, TransactOptions options, TxFunction<R, RuntimeException> body) {
    Transaction.checkOutside(what);
    return Transaction.run(handle.client, options, body, false);
  }

  static Object apply(Handle<?> handle, Op op, TransactOptions options, boolean wantsResult) {
    CommuteResult result = run(handle, "apply to " + handle.name, options, tx -> tx.core().apply(handle, op));
    if (!wantsResult) return null;
    if (result != null && result.known()) return result.get();
    throw Errors.make(Reason.OTHER, io.grpc.Status.Code.DATA_LOSS, handle.name, handle.name
        + ": the operation was applied, and its result was lost with the connection: read the entry");
  }

  static List<Commit> history(Handle<?> handle, long beforeVersion, int limit) {
    Transaction.checkOutside("history of " + handle.name);
    Names.checkName(handle.name);
    ClientCore core = handle.core;
    GetHistoryResponse response = core.unary(RefServiceGrpc.getGetHistoryMethod(),
        () -> GetHistoryRequest.newBuilder().setName(core.names().full(handle.name)).setBeforeVersion(beforeVersion)
            .setLimit(limit).setSeen(core.position().seen()).build(), Call.until(null));
    core.position().observe(response.getHeader());
    List<Commit> commits = new ArrayList<>(response.getCommitsCount());
    for (stmd.v1.CommitEvent event : response.getCommitsList()) {
      Wire.Gathered gathered = new Wire.Gathered();
      gathered.add(event, core.names(), core.mapper(), true);
      commits.add(gathered.commit());
    }
    return List.copyOf(commits);
  }
}
