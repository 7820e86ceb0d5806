//go:build !linux

package stm

import "time"

var processStart = time.Now()

// bootTime counts suspend by the wall clock where Go's own clock stands still then: whichever says that more has
// passed. A lease then ends too early at worst.
func bootTime() time.Duration {
	return max(time.Since(processStart), time.Now().Round(0).Sub(processStart.Round(0)))
}
