package stm

import (
	"fmt"
	"math"

	"stmd.dev/client/go/internal/stmv1"
)

// Op is a change that the daemon applies at the commit point, so that it never conflicts: r.Commute(tx, stm.Add(1)),
// atom.Apply(ctx, stm.Conj("x")). At a path into the value: stm.Add(1).At("visits", 0). What an operation does, and on
// which types, is the daemon's to say: see Operation in proto/stm/v1/common.proto.
type Op struct {
	path  []any
	build func(codec) (*stmv1.Operation, error)
}

// At is the operation at a path into the value: keys and indexes.
func (o Op) At(path ...any) Op {
	return Op{path: append(append([]any{}, o.path...), path...), build: o.build}
}

func (o Op) wire(c codec) (*stmv1.Operation, error) {
	if o.build == nil {
		return nil, badValue("the zero Op is no operation: make one by stm.Add and the like")
	}
	made, err := o.build(c)
	if err != nil {
		return nil, err
	}
	for _, step := range o.path {
		key, err := c.encode(step)
		if err == nil && c.keywordKeys {
			key, err = keywordKey(key)
		}
		if err != nil {
			return nil, within(err, "the path")
		}
		made.Path = append(made.Path, key)
	}
	return made, nil
}

func opOfValue(value any, put func(*stmv1.Operation, *stmv1.Value)) Op {
	return Op{build: func(c codec) (*stmv1.Operation, error) {
		wire, err := c.encode(value)
		if err != nil {
			return nil, err
		}
		made := &stmv1.Operation{}
		put(made, wire)
		return made, nil
	}}
}

func opOfItems(items []any, put func(*stmv1.Operation, *stmv1.Items)) Op {
	return Op{build: func(c codec) (*stmv1.Operation, error) {
		wire := &stmv1.Items{}
		for i, item := range items {
			one, err := c.encode(item)
			if err != nil {
				return nil, within(err, fmt.Sprintf("[%d]", i))
			}
			wire.Items = append(wire.Items, one)
		}
		made := &stmv1.Operation{}
		put(made, wire)
		return made, nil
	}}
}

// SetTo replaces the value, or what is at the path.
func SetTo(value any) Op {
	return opOfValue(value, func(o *stmv1.Operation, v *stmv1.Value) { o.Operation = &stmv1.Operation_Set{Set: v} })
}

// Add takes an integer or a float64. A sum past 64 bits is ErrRejected, Cause "overflow".
func Add(amount any) Op {
	return opOfValue(amount, func(o *stmv1.Operation, v *stmv1.Value) { o.Operation = &stmv1.Operation_Add{Add: v} })
}

// Min keeps the smaller of the two.
func Min(value any) Op {
	return opOfValue(value, func(o *stmv1.Operation, v *stmv1.Value) { o.Operation = &stmv1.Operation_Min{Min: v} })
}

// Max keeps the larger of the two.
func Max(value any) Op {
	return opOfValue(value, func(o *stmv1.Operation, v *stmv1.Value) { o.Operation = &stmv1.Operation_Max{Max: v} })
}

// Append puts all items, characters or bytes of more at the end.
func Append(more any) Op {
	return opOfValue(
		more,
		func(o *stmv1.Operation, v *stmv1.Value) { o.Operation = &stmv1.Operation_Append{Append: v} },
	)
}

// Conj adds to a vector at the end, to a list at the front, to a set; to a map, each item a slice of a key and a value.
func Conj(items ...any) Op {
	return opOfItems(items, func(o *stmv1.Operation, v *stmv1.Items) { o.Operation = &stmv1.Operation_Conj{Conj: v} })
}

// Disj takes items from a set.
func Disj(items ...any) Op {
	return opOfItems(items, func(o *stmv1.Operation, v *stmv1.Items) { o.Operation = &stmv1.Operation_Disj{Disj: v} })
}

// Dissoc takes keys from a map.
func Dissoc(keys ...any) Op {
	return Op{build: func(c codec) (*stmv1.Operation, error) {
		made := &stmv1.Items{}
		for _, key := range keys {
			wire, err := c.encode(key)
			if err == nil && c.keywordKeys {
				wire, err = keywordKey(wire)
			}
			if err != nil {
				return nil, within(err, "a key")
			}
			made.Items = append(made.Items, wire)
		}
		return &stmv1.Operation{Operation: &stmv1.Operation_Dissoc{Dissoc: made}}, nil
	}}
}

// Assoc puts keys and values, in turn, into a map, or at indexes of a vector.
func Assoc(keysAndValues ...any) Op {
	return Op{build: func(c codec) (*stmv1.Operation, error) {
		if len(keysAndValues) == 0 || len(keysAndValues)%2 != 0 {
			return nil, badValue("Assoc takes keys and values in turn")
		}
		entries := Map{}
		for i := 0; i < len(keysAndValues); i += 2 {
			entries = append(entries, MapEntry{keysAndValues[i], keysAndValues[i+1]})
		}
		made := &stmv1.Map{}
		if err := c.appendEntries(made, entries, 1); err != nil {
			return nil, err
		}
		return &stmv1.Operation{Operation: &stmv1.Operation_Assoc{Assoc: made}}, nil
	}}
}

// Merge puts the entries of a map (a Go map, a struct, or a Map) into the map.
func Merge(entries any) Op {
	return Op{build: func(c codec) (*stmv1.Operation, error) {
		wire, err := c.encode(entries)
		if err != nil {
			return nil, err
		}
		if wire.GetMap() == nil {
			return nil, badValue(fmt.Sprintf("Merge takes a map, not %T", entries))
		}
		return &stmv1.Operation{Operation: &stmv1.Operation_Assoc{Assoc: wire.GetMap()}}, nil
	}}
}

// Toggle turns a boolean around.
func Toggle() Op {
	return Op{build: func(codec) (*stmv1.Operation, error) {
		return &stmv1.Operation{Operation: &stmv1.Operation_Toggle{Toggle: true}}, nil
	}}
}

func count(n int, put func(*stmv1.Operation, uint32)) Op {
	return Op{build: func(codec) (*stmv1.Operation, error) {
		if n < 1 || n > math.MaxInt32 {
			return nil, badValue(fmt.Sprintf("%d items can't be taken: take at least 1", n))
		}
		made := &stmv1.Operation{}
		put(made, uint32(n))
		return made, nil
	}}
}

// Pop takes n items from the end of a vector or the front of a list. Its result is what was removed: the item if n is
// 1, else a vector.
func Pop(n int) Op {
	return count(n, func(o *stmv1.Operation, n uint32) { o.Operation = &stmv1.Operation_Pop{Pop: n} })
}

// Shift takes n items from the front; its result is as that of Pop.
func Shift(n int) Op {
	return count(n, func(o *stmv1.Operation, n uint32) { o.Operation = &stmv1.Operation_Shift{Shift: n} })
}

// CompareAndSet rejects the whole transaction, Cause "compare", when the present value is not expected. expected is
// Absent: only if there is none.
func CompareAndSet(expected, value any) Op {
	return Op{build: func(c codec) (*stmv1.Operation, error) {
		wire := &stmv1.CompareAndSet{}
		var err error
		if expected != Absent {
			if wire.Expected, err = c.encode(expected); err != nil {
				return nil, err
			}
		}
		if wire.Value, err = c.encode(value); err != nil {
			return nil, err
		}
		return &stmv1.Operation{Operation: &stmv1.Operation_CompareAndSet{CompareAndSet: wire}}, nil
	}}
}
