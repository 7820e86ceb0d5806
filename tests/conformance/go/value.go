package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"stmd.dev/client/go/stm"
)

// object is a JSON object; numbers are json.Number.
type object = map[string]any

// point is the user's type that every driver has.
type point struct {
	X     int64
	YAxis int64
}

func init() { stm.Register[point]("conf.Point") }

// broken is what the driver does not understand; it leaves a command by panic.
type broken struct{ text string }

func breakIf(err error) {
	if err != nil {
		panic(broken{err.Error()})
	}
}

func integer(of any) int64 {
	switch v := of.(type) {
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		breakIf(err)
		return n
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			f, wrong := v.Float64()
			breakIf(wrong)
			return int64(f)
		}
		return n
	}
	panic(broken{fmt.Sprintf("no integer: %v", of)})
}

func list(of any) []any {
	items, ok := of.([]any)
	if !ok && of != nil {
		panic(broken{fmt.Sprintf("no list: %v", of)})
	}
	return items
}

func items(of any) []any {
	made := []any{}
	for _, item := range list(of.(object)["items"]) {
		made = append(made, native(item))
	}
	return made
}

// native makes a Go value of Protocol Buffers' JSON of one.
func native(of any) any {
	fields, ok := of.(object)
	if !ok || len(fields) != 1 {
		panic(broken{fmt.Sprintf("no value: %v", of)})
	}
	for kind, v := range fields {
		switch kind {
		case "nil":
			return nil
		case "boolean":
			return v.(bool)
		case "integer":
			return integer(v)
		case "float64":
			switch v {
			case "NaN":
				return math.NaN()
			case "Infinity":
				return math.Inf(1)
			case "-Infinity":
				return math.Inf(-1)
			}
			f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
			breakIf(err)
			return f
		case "text":
			return v.(string)
		case "blob":
			b, err := base64.StdEncoding.DecodeString(v.(string))
			breakIf(err)
			return b
		case "character":
			return stm.Char(integer(v))
		case "keyword":
			return stm.Keyword(v.(string))
		case "symbol":
			return stm.Symbol(v.(string))
		case "instant":
			t, err := time.Parse(time.RFC3339Nano, v.(string))
			breakIf(err)
			return t
		case "uuid":
			u, err := stm.ParseUUID(v.(string))
			breakIf(err)
			return u
		case "bigint":
			n, ok := new(big.Int).SetString(v.(string), 10)
			if !ok {
				panic(broken{"no bigint: " + v.(string)})
			}
			return n
		case "decimal":
			return stm.Decimal(v.(string))
		case "list":
			return stm.List(items(v))
		case "vector":
			return items(v)
		case "set":
			return stm.Set(items(v))
		case "map":
			made := stm.Map{}
			for _, entry := range list(v.(object)["entries"]) {
				made = append(
					made,
					stm.MapEntry{Key: native(entry.(object)["key"]), Value: native(entry.(object)["value"])},
				)
			}
			return made
		case "tagged":
			return stm.Tagged{Tag: v.(object)["tag"].(string), Value: native(v.(object)["value"])}
		}
	}
	panic(broken{fmt.Sprintf("no value: %v", of)})
}

func itemsOut(of []any) object {
	made := []any{}
	for _, item := range of {
		made = append(made, out(item))
	}
	return object{"items": made}
}

// out is the other way; stm.Absent is {}.
func out(value any) any {
	switch v := value.(type) {
	case nil:
		return object{"nil": true}
	case bool:
		return object{"boolean": v}
	case int64:
		return object{"integer": strconv.FormatInt(v, 10)}
	case float64:
		switch {
		case math.IsNaN(v):
			return object{"float64": "NaN"}
		case math.IsInf(v, 1):
			return object{"float64": "Infinity"}
		case math.IsInf(v, -1):
			return object{"float64": "-Infinity"}
		case v == 0 && math.Signbit(v):
			return object{"float64": "-0.0"} // as a number its sign is lost in some readers
		}
		return object{"float64": v}
	case string:
		return object{"text": v}
	case []byte:
		return object{"blob": base64.StdEncoding.EncodeToString(v)}
	case stm.Char:
		return object{"character": int32(v)}
	case stm.Keyword:
		return object{"keyword": string(v)}
	case stm.Symbol:
		return object{"symbol": string(v)}
	case time.Time:
		return object{"instant": v.Format(time.RFC3339Nano)}
	case stm.UUID:
		return object{"uuid": v.String()}
	case *big.Int:
		return object{"bigint": v.String()}
	case stm.Decimal:
		return object{"decimal": string(v)}
	case stm.List:
		return object{"list": itemsOut(v)}
	case []any:
		return object{"vector": itemsOut(v)}
	case stm.Set:
		return object{"set": itemsOut(v)}
	case stm.Map:
		entries := []any{}
		for _, entry := range v {
			entries = append(entries, object{"key": out(entry.Key), "value": out(entry.Value)})
		}
		return object{"map": object{"entries": entries}}
	case stm.Tagged:
		return object{"tagged": object{"tag": v.Tag, "value": out(v.Value)}}
	case point:
		fields := stm.Map{{Key: stm.Keyword("x"), Value: v.X}, {Key: stm.Keyword("y-axis"), Value: v.YAxis}}
		return out(stm.Tagged{Tag: "conf.Point", Value: fields})
	}
	if value == stm.Absent {
		return object{}
	}
	panic(broken{fmt.Sprintf("a %T has no JSON", value)})
}

func wide(n int64) string { return strconv.FormatInt(n, 10) }
