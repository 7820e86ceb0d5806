package stm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stmd.dev/client/go/internal/stmv1"
)

// Reason says why. It comes from the daemon's ErrorDetail or from this package, never from a message's text.
type Reason string

// The reasons. Each has its ErrX, for errors.Is.
const (
	ReasonConflict          Reason = "conflict"
	ReasonRejected          Reason = "rejected"
	ReasonLockLost          Reason = "fence-lost"
	ReasonSessionExpired    Reason = "session-expired"
	ReasonCommitUnknown     Reason = "commit-unknown"
	ReasonSnapshotTooOld    Reason = "snapshot-too-old"
	ReasonLimit             Reason = "limit-exceeded"
	ReasonUnavailable       Reason = "unavailable"
	ReasonStoreChanged      Reason = "store-changed"
	ReasonNoSpace           Reason = "no-space"
	ReasonUnsupported       Reason = "unsupported"
	ReasonValueLost         Reason = "value-lost"
	ReasonAbsent            Reason = "absent"
	ReasonWrongKind         Reason = "wrong-kind"
	ReasonBadValue          Reason = "bad-value"
	ReasonDenied            Reason = "denied"
	ReasonTransactionClosed Reason = "transaction-closed"
	ReasonInTransaction     Reason = "in-transaction"
)

// For errors.Is: an *Error is the one of its reason.
var (
	ErrConflict          = sentinel(ReasonConflict)
	ErrRejected          = sentinel(ReasonRejected)
	ErrLockLost          = sentinel(ReasonLockLost)
	ErrSessionExpired    = sentinel(ReasonSessionExpired)
	ErrCommitUnknown     = sentinel(ReasonCommitUnknown)
	ErrSnapshotTooOld    = sentinel(ReasonSnapshotTooOld)
	ErrLimit             = sentinel(ReasonLimit)
	ErrUnavailable       = sentinel(ReasonUnavailable)
	ErrStoreChanged      = sentinel(ReasonStoreChanged)
	ErrNoSpace           = sentinel(ReasonNoSpace)
	ErrUnsupported       = sentinel(ReasonUnsupported)
	ErrValueLost         = sentinel(ReasonValueLost)
	ErrAbsent            = sentinel(ReasonAbsent)
	ErrWrongKind         = sentinel(ReasonWrongKind)
	ErrBadValue          = sentinel(ReasonBadValue)
	ErrDenied            = sentinel(ReasonDenied)
	ErrTransactionClosed = sentinel(ReasonTransactionClosed)
	ErrInTransaction     = sentinel(ReasonInTransaction)
)

func sentinel(reason Reason) error { return &Error{Reason: reason, Message: string(reason)} }

// Error is every error of this package but those of a context, which stay the context's own.
type Error struct {
	Reason     Reason // "": the daemon failed in a way that has no reason; Message tells
	Name       string // the entry or the field at fault
	Message    string // what, where and what to do
	Found      string
	Expected   string
	Limit      string // the bound that was reached, by its setting's name
	LimitValue int64
	RetryAfter time.Duration // meaningful if Retryable
	Retryable  bool          // the same may succeed later, after RetryAfter
}

func (e *Error) Error() string { return "stm: " + e.Message }

// Is makes errors.Is(err, ErrConflict) and the like compare reasons.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && e.Reason != "" && other == sentinelOf[e.Reason]
}

var sentinelOf = func() map[Reason]*Error {
	all := map[Reason]*Error{}
	for _, err := range []error{ErrConflict, ErrRejected, ErrLockLost, ErrSessionExpired, ErrCommitUnknown, ErrSnapshotTooOld,
		ErrLimit, ErrUnavailable, ErrStoreChanged, ErrNoSpace, ErrUnsupported, ErrValueLost, ErrAbsent, ErrWrongKind,
		ErrBadValue, ErrDenied, ErrTransactionClosed, ErrInTransaction} {
		one := err.(*Error)
		all[one.Reason] = one
	}
	return all
}()

func badValue(message string) error { return &Error{Reason: ReasonBadValue, Message: message} }

var reasonOfDetail = map[stmv1.ErrorReason]Reason{
	stmv1.ErrorReason_ERROR_REASON_SNAPSHOT_TOO_OLD: ReasonSnapshotTooOld,
	stmv1.ErrorReason_ERROR_REASON_LIMIT:            ReasonLimit,
	stmv1.ErrorReason_ERROR_REASON_WRONG_KIND:       ReasonWrongKind,
	stmv1.ErrorReason_ERROR_REASON_SESSION_EXPIRED:  ReasonSessionExpired,
	stmv1.ErrorReason_ERROR_REASON_CONTAINER_DOWN:   ReasonUnavailable,
	stmv1.ErrorReason_ERROR_REASON_DENIED:           ReasonDenied,
	stmv1.ErrorReason_ERROR_REASON_BAD_VALUE:        ReasonBadValue,
	stmv1.ErrorReason_ERROR_REASON_NO_SPACE:         ReasonNoSpace,
	stmv1.ErrorReason_ERROR_REASON_ABSENT:           ReasonAbsent,
	stmv1.ErrorReason_ERROR_REASON_STORE_CHANGED:    ReasonStoreChanged,
	stmv1.ErrorReason_ERROR_REASON_UNSUPPORTED:      ReasonUnsupported,
	stmv1.ErrorReason_ERROR_REASON_SLOW_READER:      ReasonLimit,
	stmv1.ErrorReason_ERROR_REASON_NOT_READY:        ReasonUnavailable,
	stmv1.ErrorReason_ERROR_REASON_VALUE_LOST:       ReasonValueLost,
}

// For a failure without a detail: one of gRPC itself, or of something between.
var reasonOfCode = map[codes.Code]Reason{
	codes.Unavailable:       ReasonUnavailable,
	codes.Unimplemented:     ReasonUnsupported,
	codes.ResourceExhausted: ReasonLimit,
	codes.InvalidArgument:   ReasonBadValue,
	codes.NotFound:          ReasonAbsent,
	codes.PermissionDenied:  ReasonDenied,
	codes.Unauthenticated:   ReasonDenied,
	codes.DataLoss:          ReasonValueLost,
}

// errorFromStatus makes an *Error of what a gRPC call returned. A deadline and a cancel stay the context's own errors.
func errorFromStatus(err error) error {
	if err == nil {
		return nil
	}
	answer := status.Convert(err)
	switch answer.Code() {
	case codes.DeadlineExceeded:
		return fmt.Errorf("stm: %s: %w", answer.Message(), context.DeadlineExceeded)
	case codes.Canceled:
		return fmt.Errorf("stm: %s: %w", answer.Message(), context.Canceled)
	}
	made := &Error{Reason: reasonOfCode[answer.Code()], Message: answer.Message()}
	for _, one := range answer.Details() {
		detail, ok := one.(*stmv1.ErrorDetail)
		if !ok {
			continue
		}
		if reason, known := reasonOfDetail[detail.GetReason()]; known {
			made.Reason = reason
		}
		made.Name, made.Found, made.Expected = detail.GetName(), detail.GetFound(), detail.GetExpected()
		made.Limit, made.LimitValue = detail.GetLimit(), detail.GetLimitValue()
		if detail.GetRetryAfter() != nil {
			made.Retryable, made.RetryAfter = true, detail.GetRetryAfter().AsDuration()
		}
		return made
	}
	if answer.Code() == codes.Unimplemented {
		made.Message = "the daemon is older than this client and lacks the call (" + made.Message + "): run a newer stmd"
	}
	made.Retryable = made.Reason == ReasonUnavailable
	return made
}
