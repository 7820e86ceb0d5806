package stm

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	ReasonRerunDiffers      Reason = "rerun-differs"
	ReasonLockBusy          Reason = "lock-busy"
	ReasonUpgradeRefused    Reason = "upgrade-refused"
	ReasonDeadlock          Reason = "deadlock"
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
	ErrRerunDiffers      = sentinel(ReasonRerunDiffers)
	ErrLockBusy          = sentinel(ReasonLockBusy)
	ErrUpgradeRefused    = sentinel(ReasonUpgradeRefused)
	ErrDeadlock          = sentinel(ReasonDeadlock)
)

// ErrClosed is what calls on a closed client end with.
var ErrClosed = errors.New("stm: the client is closed: connect again")

var sentinelOf = map[Reason]*Error{}

func sentinel(reason Reason) error {
	made := &Error{Reason: reason, Message: string(reason)}
	sentinelOf[reason] = made
	return made
}

// Meta says who changed something and why; it is kept with the commit.
type Meta struct {
	Label       string // why, as the transaction's Label option said
	Client      string // the client's name
	Traceparent string // W3C trace context
	Principal   string // who the daemon took the client for
}

// ConflictCause is one change that was in the way of a transaction.
type ConflictCause struct {
	Name    string // an entry, or a prefix that was listed
	Version int64
	By      Meta
}

// Error is every error of this package but ErrClosed, those of a context, which stay the context's own, and those of a
// body, which come out unchanged.
type Error struct {
	Reason      Reason // "": the daemon failed in a way that has no reason; Message tells
	Name        string // the entry or the field at fault
	Message     string // what, where and what to do
	Found       string
	Expected    string
	Limit       string // the bound that was reached, by its setting's name
	LimitValue  int64
	RetryAfter  time.Duration   // meaningful if Retryable
	Retryable   bool            // the same may succeed later, after RetryAfter
	Causes      []ConflictCause // of a conflict
	OutcomeWord string          // of a commit whose outcome is unknown: what Client.Outcome and `stmctl outcome` take
	Cause       string          // of a rejection: "validator", "type", "compare", "overflow", "absent" or "kind"
	Rule        any             // the validator's rule that said no

	code codes.Code
	ends error // the context's error that ended it, if one did
}

func (e *Error) Error() string { return "stm: " + e.Message }

// Unwrap gives the context's own error, if a deadline or a cancel ended the call.
func (e *Error) Unwrap() error { return e.ends }

// Is makes errors.Is(err, ErrConflict) and the like compare reasons.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && e.Reason != "" && other == sentinelOf[e.Reason]
}

func badValue(message string) error {
	return &Error{Reason: ReasonBadValue, Message: message, code: codes.InvalidArgument}
}

func reasonOf(err error) Reason {
	var whole *Error
	if errors.As(err, &whole) {
		return whole.Reason
	}
	return ""
}

// isTransient says whether the same call may be sent again after this answer.
func isTransient(err error) bool {
	var whole *Error
	if !errors.As(err, &whole) {
		return false
	}
	return whole.code == codes.Unavailable || whole.code == codes.ResourceExhausted && whole.Retryable
}

func retryAfter(err error) time.Duration {
	var whole *Error
	if errors.As(err, &whole) && whole.Retryable {
		return whole.RetryAfter
	}
	return 0
}

// unavailable is the network's word, or this client's own.
func unavailable(message string) error {
	return &Error{Reason: ReasonUnavailable, Message: message, Retryable: true, code: codes.Unavailable}
}

// asUnavailable makes what ended an outage an error that says that nobody answered.
func asUnavailable(err error) error {
	if isTransient(err) {
		return err
	}
	return unavailable(messageOf(err))
}

func messageOf(err error) string {
	var whole *Error
	if errors.As(err, &whole) {
		return whole.Message
	}
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "stm: ")
}

func internalError(message string) error { return &Error{Message: message, code: codes.Internal} }

// ofEntry names the entry that a BadValue is of; other errors, a codec's own, are wrapped.
func ofEntry(name string, err error) error {
	var wrong *Error
	if !errors.As(err, &wrong) {
		return &Error{
			Reason:  ReasonBadValue,
			Name:    name,
			Message: name + ": " + err.Error(),
			code:    codes.InvalidArgument,
			ends:    err,
		}
	}
	named := *wrong
	named.Name, named.Message = name, name+": "+wrong.Message
	return &named
}

func absentError(name string) error {
	return &Error{Reason: ReasonAbsent, Name: name, code: codes.NotFound,
		Message: name + " is absent: set it first, give its handle an init, or use Find"}
}

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

// detailOf is nil where the daemon told nothing more.
func detailOf(err error) *stmv1.ErrorDetail {
	for _, one := range status.Convert(err).Details() {
		if detail, ok := one.(*stmv1.ErrorDetail); ok {
			return detail
		}
	}
	return nil
}

// errorFromStatus makes an *Error of what a gRPC call returned. A deadline and a cancel stay the context's own errors.
func errorFromStatus(err error, names names) error {
	if err == nil {
		return nil
	}
	answer := status.Convert(err)
	return failure(answer.Code(), answer.Message(), detailOf(err), names)
}

func failure(code codes.Code, message string, detail *stmv1.ErrorDetail, names names) error {
	switch code {
	case codes.DeadlineExceeded:
		return fmt.Errorf("stm: %s: %w", message, context.DeadlineExceeded)
	case codes.Canceled:
		return fmt.Errorf("stm: %s: %w", message, context.Canceled)
	}
	made := &Error{Reason: reasonOfCode[code], Message: message, code: code}
	if detail == nil {
		if code == codes.Unimplemented {
			made.Message = fmt.Sprintf("the daemon is older than this client and lacks the call (%s): run a newer stmd",
				made.Message)
		}
		made.Retryable = made.Reason == ReasonUnavailable
		return made
	}
	if reason, known := reasonOfDetail[detail.GetReason()]; known {
		made.Reason = reason
	}
	made.Name, made.Found, made.Expected = names.short(detail.GetName()), detail.GetFound(), detail.GetExpected()
	if made.Name != detail.GetName() {
		made.Message = strings.ReplaceAll(made.Message, detail.GetName(), made.Name)
	}
	made.Limit, made.LimitValue = detail.GetLimit(), detail.GetLimitValue()
	if detail.GetRetryAfter() != nil {
		made.Retryable, made.RetryAfter = true, detail.GetRetryAfter().AsDuration()
	}
	return made
}

func asError(err error) (*Error, bool) {
	var whole *Error
	is := errors.As(err, &whole)
	return whole, is
}
