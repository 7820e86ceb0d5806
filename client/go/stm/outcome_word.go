package stm

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"stmd.dev/client/go/internal/stmv1"
)

// An outcome word is TRANSACTION-ID.WRITER.SEEN.STORE.CHECK, the same in all languages and for stmctl.
func printOutcomeWord(id *stmv1.CommitId) string {
	text := fmt.Sprintf("%s.%016x.%d.%016x", strings.ReplaceAll(id.GetTransactionId(), "-", ""), id.GetWriter(),
		id.GetSeen().GetVersion(), id.GetSeen().GetStore())
	return text + "." + checkOf(text)
}

// checkOf is FNV-1a, folded to 16 bits.
func checkOf(text string) string {
	hash := fnv.New32a()
	hash.Write([]byte(text))
	sum := hash.Sum32()
	return fmt.Sprintf("%04x", sum>>16^sum&0xffff)
}

func parseOutcomeWord(word string) (*stmv1.CommitId, error) {
	wrong := func(why string) (*stmv1.CommitId, error) {
		made := badValue(fmt.Sprintf("outcome word %q: %s: copy the whole word that the error printed", word, why)).(*Error)
		made.Name = "word"
		return nil, made
	}
	text := strings.TrimSpace(word)
	parts := strings.Split(text, ".")
	if len(parts) != 5 {
		return wrong("expected five parts joined by dots")
	}
	if checkOf(strings.TrimSuffix(text, "."+parts[4])) != parts[4] {
		return wrong("its check (the last part) does not fit the rest")
	}
	var transaction UUID
	if n, err := hex.Decode(transaction[:], []byte(fmt.Sprintf("%.32s", parts[0]))); err != nil || n != 16 ||
		len(parts[0]) != 32 {
		return wrong("expected 32 digits of a transaction id")
	}
	writer, err := strconv.ParseUint(parts[1], 16, 64)
	if err != nil {
		return wrong("expected a writer in hexadecimal digits")
	}
	seen, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || seen < 0 {
		return wrong("expected a version")
	}
	store, err := strconv.ParseUint(parts[3], 16, 64)
	if err != nil {
		return wrong("expected a store in hexadecimal digits")
	}
	return &stmv1.CommitId{
		TransactionId: transaction.String(),
		Writer:        writer,
		Seen:          &stmv1.Seen{Version: seen, Store: store},
		Resend:        true,
	}, nil
}
