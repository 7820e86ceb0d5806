package stm

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"stmd.dev/client/go/internal/stmv1"
)

// edn prints a value so that equal values are equal texts: maps and sets in one order. For comparing, and for people.
func edn(value *stmv1.Value) string {
	var out strings.Builder
	printEDN(&out, value)
	return out.String()
}

func printEDN(out *strings.Builder, value *stmv1.Value) {
	switch kind := value.GetKind().(type) {
	case nil:
		out.WriteString("absent")
	case *stmv1.Value_Nil:
		out.WriteString("nil")
	case *stmv1.Value_Boolean:
		out.WriteString(strconv.FormatBool(kind.Boolean))
	case *stmv1.Value_Integer:
		out.WriteString(strconv.FormatInt(kind.Integer, 10))
	case *stmv1.Value_Float64:
		out.WriteString(doubleText(kind.Float64))
	case *stmv1.Value_Text:
		out.WriteString(strconv.Quote(kind.Text))
	case *stmv1.Value_Blob:
		out.WriteString(`#stm/bytes "` + base64.StdEncoding.EncodeToString(kind.Blob) + `"`)
	case *stmv1.Value_Character:
		out.WriteString(`\` + string(rune(kind.Character)))
	case *stmv1.Value_Keyword:
		out.WriteString(":" + kind.Keyword)
	case *stmv1.Value_Symbol:
		out.WriteString(kind.Symbol)
	case *stmv1.Value_Instant:
		out.WriteString(`#inst "` + kind.Instant.AsTime().Format(time.RFC3339Nano) + `"`)
	case *stmv1.Value_Uuid:
		out.WriteString(`#uuid "` + kind.Uuid + `"`)
	case *stmv1.Value_List:
		out.WriteString("(" + strings.Join(ednItems(kind.List), " ") + ")")
	case *stmv1.Value_Vector:
		out.WriteString("[" + strings.Join(ednItems(kind.Vector), " ") + "]")
	case *stmv1.Value_Set:
		items := ednItems(kind.Set)
		slices.Sort(items)
		out.WriteString("#{" + strings.Join(items, " ") + "}")
	case *stmv1.Value_Map:
		entries := make([]string, 0, len(kind.Map.GetEntries()))
		for _, entry := range kind.Map.GetEntries() {
			entries = append(entries, edn(entry.GetKey())+" "+edn(entry.GetValue()))
		}
		slices.Sort(entries)
		out.WriteString("{" + strings.Join(entries, ", ") + "}")
	case *stmv1.Value_Tagged:
		out.WriteString("#" + kind.Tagged.GetTag() + " ")
		printEDN(out, kind.Tagged.GetValue())
	case *stmv1.Value_Bigint:
		out.WriteString(kind.Bigint + "N")
	case *stmv1.Value_Decimal:
		out.WriteString(kind.Decimal + "M")
	case *stmv1.Value_Edn:
		out.WriteString(kind.Edn)
	}
}

func doubleText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "##NaN"
	case math.IsInf(f, 1):
		return "##Inf"
	case math.IsInf(f, -1):
		return "##-Inf"
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

func ednItems(items *stmv1.Items) []string {
	texts := make([]string, 0, len(items.GetItems()))
	for _, item := range items.GetItems() {
		texts = append(texts, edn(item))
	}
	return texts
}
