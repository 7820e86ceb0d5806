// Package stm is the client of stmd: software transactional memory that several programs share.
//
// Connect gives a Client. NewRef and NewAtom name entries of it; Client.Transact runs a body that reads and writes them
// as one transaction, again and again until it commits on a snapshot that still stands. Client.Watch tells of commits
// as they come, Client.Lock holds locks whose grants a transaction can be fenced by (Tx.Fence), Client.Records reads
// what transactions recorded. Values are Go values; README.md has which stand for what.
package stm
