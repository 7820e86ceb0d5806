package dev.stmd;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import stmd.v1.Items;
import stmd.v1.MapEntry;
import stmd.v1.Value;

/**
 * What a transaction read and its types have no place for: fields of records that a newer program wrote. They are
 * written back with the record, where it stays, where it is moved as it was, and where it was changed in its place. One
 * thread.
 */
final class UnknownFields {
  private static final ThreadLocal<boolean[]> LOSS = ThreadLocal.withInitial(() -> new boolean[1]);

  private record Kept(Value raw, Value known) {}

  private final Map<String, Kept> entries = new HashMap<>();
  private final Map<Value, Value> records = new HashMap<>();

  static void note() {
    LOSS.get()[0] = true;
  }

  /** Did a decode on this thread leave something out since the last call? */
  static boolean take() {
    boolean[] loss = LOSS.get();
    boolean was = loss[0];
    loss[0] = false;
    return was;
  }

  /** `known` is what `raw` would be written back as. */
  void keep(String name, Value raw, Value known) {
    if (raw.equals(known)) return;
    entries.put(name, new Kept(raw, known));
    collect(raw, known);
  }

  private void collect(Value raw, Value known) {
    if (raw.getKindCase() != known.getKindCase() || raw.equals(known)) return;
    switch (raw.getKindCase()) {
      case TAGGED -> {
        if (known.getTagged().getValue().hasMap()) records.put(known, raw);
        collect(raw.getTagged().getValue(), known.getTagged().getValue());
      }
      case VECTOR, LIST -> {
        List<Value> a = items(raw);
        List<Value> b = items(known);
        for (int i = 0; i < a.size() && i < b.size(); ++i) collect(a.get(i), b.get(i));
      }
      case MAP -> {
        Map<Value, Value> fields = fields(raw);
        for (MapEntry entry : known.getMap().getEntriesList()) {
          Value same = fields.get(entry.getKey());
          if (same != null) collect(same, entry.getValue());
        }
      }
      default -> {}
    }
  }

  Value restore(String name, Value written) {
    if (records.isEmpty()) return written;
    Set<Value> moved = new HashSet<>();
    findMoved(written, moved);
    Kept kept = entries.get(name);
    return restored(written, kept == null ? null : kept.raw(), kept == null ? null : kept.known(), moved);
  }

  private void findMoved(Value written, Set<Value> moved) {
    switch (written.getKindCase()) {
      case TAGGED -> {
        if (records.containsKey(written)) {
          moved.add(written);
        } else {
          findMoved(written.getTagged().getValue(), moved);
        }
      }
      case VECTOR, LIST, SET -> items(written).forEach(item -> findMoved(item, moved));
      case MAP -> written.getMap().getEntriesList().forEach(entry -> findMoved(entry.getValue(), moved));
      default -> {}
    }
  }

  private Value restored(Value written, Value raw, Value known, Set<Value> moved) {
    switch (written.getKindCase()) {
      case TAGGED: {
        Value same = records.get(written);
        if (same != null) return same;
        // Changed in its place, unless the record of that place is written elsewhere as it was.
        boolean elsewhere = known != null && moved.contains(known);
        Value rawInside = elsewhere ? null : under(raw, written);
        Value knownInside = elsewhere ? null : under(known, written);
        Value inside = restored(written.getTagged().getValue(), rawInside, knownInside, moved);
        if (rawInside != null && rawInside.hasMap() && knownInside != null && knownInside.hasMap() && inside.hasMap()) {
          Map<Value, Value> had = fields(knownInside);
          Map<Value, Value> has = fields(inside);
          stmd.v1.Map.Builder map = inside.getMap().toBuilder();
          for (MapEntry entry : rawInside.getMap().getEntriesList()) {
            if (!had.containsKey(entry.getKey()) && !has.containsKey(entry.getKey())) map.addEntries(entry);
          }
          inside = Value.newBuilder().setMap(map).build();
        }
        return Value.newBuilder().setTagged(written.getTagged().toBuilder().setValue(inside)).build();
      }
      case VECTOR:
      case LIST: {
        List<Value> rawItems = raw != null && raw.getKindCase() == written.getKindCase() ? items(raw) : List.of();
        List<Value> knownItems = known != null && known.getKindCase() == written.getKindCase() ? items(known) : List.of();
        Items.Builder items = Items.newBuilder();
        int at = 0;
        for (Value item : items(written)) {
          items.addItems(restored(item, at < rawItems.size() ? rawItems.get(at) : null,
              at < knownItems.size() ? knownItems.get(at) : null, moved));
          ++at;
        }
        return written.hasVector() ? Value.newBuilder().setVector(items).build() : Value.newBuilder().setList(items).build();
      }
      case MAP: {
        Map<Value, Value> rawFields = raw != null && raw.hasMap() ? fields(raw) : Map.of();
        Map<Value, Value> knownFields = known != null && known.hasMap() ? fields(known) : Map.of();
        stmd.v1.Map.Builder map = stmd.v1.Map.newBuilder();
        for (MapEntry entry : written.getMap().getEntriesList()) {
          map.addEntries(entry.toBuilder().setValue(
              restored(entry.getValue(), rawFields.get(entry.getKey()), knownFields.get(entry.getKey()), moved)));
        }
        return Value.newBuilder().setMap(map).build();
      }
      case SET: {
        List<Value> items = new ArrayList<>();
        for (Value item : items(written)) items.add(restored(item, null, null, moved));
        return Value.newBuilder().setSet(Items.newBuilder().addAllItems(items)).build();
      }
      default:
        return written;
    }
  }

  private static Value under(Value tagged, Value same) {
    if (tagged == null || !tagged.hasTagged() || !tagged.getTagged().getTag().equals(same.getTagged().getTag())) return null;
    return tagged.getTagged().getValue();
  }

  private static List<Value> items(Value value) {
    return switch (value.getKindCase()) {
      case VECTOR -> value.getVector().getItemsList();
      case LIST -> value.getList().getItemsList();
      case SET -> value.getSet().getItemsList();
      default -> List.of();
    };
  }

  private static Map<Value, Value> fields(Value value) {
    Map<Value, Value> fields = new LinkedHashMap<>();
    for (MapEntry entry : value.getMap().getEntriesList()) fields.put(entry.getKey(), entry.getValue());
    return fields;
  }
}
