// Saidof reads what `go test -json` says and prints what those packages and tests said that failed.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

func main() {
	type event struct{ Action, Package, ImportPath, Test, Output string }
	said := map[string]*strings.Builder{}
	for lines := json.NewDecoder(os.Stdin); ; {
		var one event
		if lines.Decode(&one) != nil {
			return
		}
		key := one.Package + one.ImportPath + " " + one.Test
		switch one.Action {
		case "output", "build-output":
			if said[key] == nil {
				said[key] = &strings.Builder{}
			}
			said[key].WriteString(one.Output)
		case "fail", "build-fail":
			if said[key] != nil {
				fmt.Print(said[key])
			}
		}
	}
}
