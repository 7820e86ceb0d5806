package stm

import "stmd.dev/client/go/internal/stmv1"

// keptFields are the fields that a transaction read and its types have no place for. What is written by the same
// transaction has them again: a record that is written as it was read is whole, wherever it is written; one that was
// changed has them where it stands in the place it was read from.
type keptFields struct {
	entries map[string][2]*stmv1.Value // by name: as it is there, and as the types have it
	records map[string]*stmv1.Value    // by edn as the types have it: as it is there
}

func isTaggedMap(value *stmv1.Value) bool {
	return value.GetTagged() != nil && value.GetTagged().GetValue().GetMap() != nil
}

// items are a vector's or a list's; nil: it is neither.
func itemsOf(value *stmv1.Value) []*stmv1.Value {
	switch kind := value.GetKind().(type) {
	case *stmv1.Value_Vector:
		return kind.Vector.GetItems()
	case *stmv1.Value_List:
		return kind.List.GetItems()
	}
	return nil
}

func itemAt(value *stmv1.Value, index int) *stmv1.Value {
	if items := itemsOf(value); index < len(items) {
		return items[index]
	}
	return nil
}

// under is nil if value is no map, or has no such key.
func under(value *stmv1.Value, key string) *stmv1.Value {
	for _, entry := range value.GetMap().GetEntries() {
		if edn(entry.GetKey()) == key {
			return entry.GetValue()
		}
	}
	return nil
}

func insideOf(tagged, same *stmv1.Value) *stmv1.Value {
	if tagged.GetTagged() == nil || tagged.GetTagged().GetTag() != same.GetTagged().GetTag() {
		return nil
	}
	return tagged.GetTagged().GetValue()
}

func (k *keptFields) keep(name string, raw, known *stmv1.Value) {
	if edn(raw) == edn(known) {
		return
	}
	if k.entries == nil {
		k.entries, k.records = map[string][2]*stmv1.Value{}, map[string]*stmv1.Value{}
	}
	k.entries[name] = [2]*stmv1.Value{raw, known}
	k.collect(raw, known)
}

func (k *keptFields) collect(raw, known *stmv1.Value) {
	if raw == nil || known == nil || edn(raw) == edn(known) {
		return
	}
	switch {
	case raw.GetTagged() != nil && known.GetTagged() != nil:
		if isTaggedMap(known) {
			k.records[edn(known)] = raw
		}
		k.collect(raw.GetTagged().GetValue(), known.GetTagged().GetValue())
	case raw.GetMap() != nil && known.GetMap() != nil:
		for _, entry := range known.GetMap().GetEntries() {
			k.collect(under(raw, edn(entry.GetKey())), entry.GetValue())
		}
	default:
		for i, item := range itemsOf(known) {
			k.collect(itemAt(raw, i), item)
		}
	}
}

// moved finds the records that are written as they were read.
func (k *keptFields) moved(written *stmv1.Value, found map[string]bool) {
	switch kind := written.GetKind().(type) {
	case *stmv1.Value_Tagged:
		if key := edn(written); k.records[key] != nil {
			found[key] = true
			return
		}
		k.moved(kind.Tagged.GetValue(), found)
	case *stmv1.Value_Map:
		for _, entry := range kind.Map.GetEntries() {
			k.moved(entry.GetValue(), found)
		}
	case *stmv1.Value_Set:
		for _, item := range kind.Set.GetItems() {
			k.moved(item, found)
		}
	default:
		for _, item := range itemsOf(written) {
			k.moved(item, found)
		}
	}
}

// restore is what is to be written, with what was kept.
func (k *keptFields) restore(name string, written *stmv1.Value) *stmv1.Value {
	if len(k.records) == 0 {
		return written
	}
	moved := map[string]bool{}
	k.moved(written, moved)
	of := k.entries[name]
	return k.restored(written, of[0], of[1], moved)
}

func (k *keptFields) restored(written, raw, known *stmv1.Value, moved map[string]bool) *stmv1.Value {
	items := func(of []*stmv1.Value, raw, known *stmv1.Value) *stmv1.Items {
		made := &stmv1.Items{}
		for i, item := range of {
			made.Items = append(made.Items, k.restored(item, itemAt(raw, i), itemAt(known, i), moved))
		}
		return made
	}
	switch kind := written.GetKind().(type) {
	case *stmv1.Value_Tagged:
		if same := k.records[edn(written)]; same != nil {
			return same
		}
		// Changed in its place, unless the record of that place is written elsewhere as it was.
		if known != nil && moved[edn(known)] {
			raw, known = nil, nil
		}
		rawInside, knownInside := insideOf(raw, written), insideOf(known, written)
		inside := k.restored(kind.Tagged.GetValue(), rawInside, knownInside, moved)
		if rawInside.GetMap() != nil && knownInside.GetMap() != nil && inside.GetMap() != nil {
			fields := &stmv1.Map{Entries: append([]*stmv1.MapEntry{}, inside.GetMap().GetEntries()...)}
			for _, entry := range rawInside.GetMap().GetEntries() {
				if key := edn(entry.GetKey()); under(knownInside, key) == nil && under(inside, key) == nil {
					fields.Entries = append(fields.Entries, entry)
				}
			}
			inside = &stmv1.Value{Kind: &stmv1.Value_Map{Map: fields}}
		}
		return &stmv1.Value{Kind: &stmv1.Value_Tagged{Tagged: &stmv1.Tagged{Tag: kind.Tagged.GetTag(), Value: inside}}}
	case *stmv1.Value_Vector:
		return &stmv1.Value{Kind: &stmv1.Value_Vector{Vector: items(kind.Vector.GetItems(), raw, known)}}
	case *stmv1.Value_List:
		return &stmv1.Value{Kind: &stmv1.Value_List{List: items(kind.List.GetItems(), raw, known)}}
	case *stmv1.Value_Set:
		return &stmv1.Value{Kind: &stmv1.Value_Set{Set: items(kind.Set.GetItems(), nil, nil)}}
	case *stmv1.Value_Map:
		made := &stmv1.Map{}
		for _, entry := range kind.Map.GetEntries() {
			key := edn(entry.GetKey())
			made.Entries = append(made.Entries, &stmv1.MapEntry{Key: entry.GetKey(),
				Value: k.restored(entry.GetValue(), under(raw, key), under(known, key), moved)})
		}
		return &stmv1.Value{Kind: &stmv1.Value_Map{Map: made}}
	}
	return written
}
