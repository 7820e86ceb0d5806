package dev.stmd;

import com.google.protobuf.Timestamp;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import stmd.v1.CommitEvent;
import stmd.v1.EntryKind;
import stmd.v1.Value;

/** Messages and what they are here. */
final class Wire {
  static final Value NIL = Value.newBuilder().setNil(true).build();

  private Wire() {}

  /** An entry of one snapshot; value null: absent. */
  record Found(String name, Value value, long version, boolean isAtom) {}

  static Found entry(stmd.v1.Entry message, Names names) {
    Value value = message.hasValue() && message.getValue().getKindCase() != Value.KindCase.KIND_NOT_SET
        ? message.getValue() : null;
    return new Found(names.shorten(message.getName()), value, message.getVersion(),
        message.getKind() == EntryKind.ENTRY_KIND_ATOM);
  }

  static EntryKind kind(boolean isAtom) {
    return isAtom ? EntryKind.ENTRY_KIND_ATOM : EntryKind.ENTRY_KIND_REF;
  }

  static Duration duration(com.google.protobuf.Duration message) {
    return Duration.ofSeconds(message.getSeconds(), message.getNanos());
  }

  static com.google.protobuf.Duration duration(Duration duration) {
    return com.google.protobuf.Duration.newBuilder().setSeconds(duration.getSeconds()).setNanos(duration.getNano()).build();
  }

  static com.google.protobuf.Duration duration(long nanos) {
    return duration(Duration.ofNanos(Math.max(0, nanos)));
  }

  static Instant instant(Timestamp message) {
    return Instant.ofEpochSecond(message.getSeconds(), message.getNanos());
  }

  static Timestamp instant(Instant instant) {
    return Timestamp.newBuilder().setSeconds(instant.getEpochSecond()).setNanos(instant.getNano()).build();
  }

  static Meta meta(stmd.v1.Meta message) {
    return new Meta(message.getLabel(), message.getClient(), message.getTraceparent(), message.getPrincipal());
  }

  static stmd.v1.Definition definition(Definition definition, String session) {
    stmd.v1.Definition.Builder message = stmd.v1.Definition.newBuilder().setContainer(definition.container());
    if (definition.hasValidator()) message.setValidator(definition.validatorValue());
    if (!definition.ttl().isZero()) message.setTtl(duration(definition.ttl()));
    if (definition.ephemeral()) message.setSessionId(session);
    return message.build();
  }

  /** {@link Change#before} or after, as the mapper has it; {@link Stm#ABSENT} if there is none. */
  static Object valueOrAbsent(boolean present, Value value, ValueMapper mapper, String name) {
    if (!present || value.getKindCase() == Value.KindCase.KIND_NOT_SET) return Stm.ABSENT;
    return decode(mapper, value, Object.class, name);
  }

  /** Errors name the entry. */
  static Object decode(ValueMapper mapper, Value value, java.lang.reflect.Type type, String name) {
    try {
      return mapper.decode(value, type);
    } catch (BadValueException bad) {
      throw bad.about(name, name + ": " + bad.getMessage());
    }
  }

  static Value encode(ValueMapper mapper, Object value, String name) {
    try {
      return mapper.encode(value);
    } catch (BadValueException bad) {
      throw bad.about(name, name.isEmpty() ? bad.getMessage() : name + ": " + bad.getMessage());
    }
  }

  /** A commit that may come in several messages. */
  static final class Gathered {
    private final List<Change> changes = new ArrayList<>();
    private final List<Object> records = new ArrayList<>();
    private final List<Value> rawRecords = new ArrayList<>();
    private CommitEvent last = CommitEvent.getDefaultInstance();

    /** True: it is whole. */
    boolean add(CommitEvent event, Names names, ValueMapper mapper, boolean decodeRecords) {
      last = event;
      for (stmd.v1.Change change : event.getChangesList()) {
        String name = names.shorten(change.getName());
        ChangeKind kind = switch (change.getKind()) {
          case CHANGE_KIND_DELETED -> ChangeKind.DELETED;
          case CHANGE_KIND_EXPIRED -> ChangeKind.EXPIRED;
          case CHANGE_KIND_DEFINED -> ChangeKind.DEFINED;
          default -> ChangeKind.SET;
        };
        changes.add(new Change(name, kind, valueOrAbsent(change.hasBefore(), change.getBefore(), mapper, name),
            valueOrAbsent(change.hasAfter(), change.getAfter(), mapper, name), change.getBeforeUnknown(),
            change.getEntryKind() == EntryKind.ENTRY_KIND_ATOM));
      }
      for (Value record : event.getRecordsList()) {
        rawRecords.add(record);
        if (decodeRecords) {
          records.add(decode(mapper, record, Object.class, "a record of version " + event.getVersion()));
        }
      }
      return !event.getMore();
    }

    long version() {
      return last.getVersion();
    }

    List<Value> rawRecords() {
      return rawRecords;
    }

    Commit commit() {
      return new Commit(last.getVersion(), instant(last.getAt()), last.getTransactionId(), meta(last.getMeta()),
          List.copyOf(changes), java.util.Collections.unmodifiableList(records), false);
    }
  }
}
