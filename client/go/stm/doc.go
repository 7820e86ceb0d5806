// Package stm is the Go side of stmd: so far its values and its errors. README.md beside go.mod says what is not here yet.
package stm
