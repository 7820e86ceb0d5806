package stm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"stmd.dev/client/go/internal/stmv1"
)

func TestAnErrorIsMadeOfItsDetailAndNotOfItsTextOrCode(t *testing.T) {
	answer, err := status.New(codes.ResourceExhausted, "conflict, so the text says").WithDetails(&stmv1.ErrorDetail{
		Reason: stmv1.ErrorReason_ERROR_REASON_NO_SPACE, Name: "/a", Limit: "disk", LimitValue: 7, RetryAfter: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	made := fmt.Errorf("wrapped: %w", errorFromStatus(answer.Err(), names{}))
	var whole *Error
	if !errors.As(made, &whole) || !errors.Is(made, ErrNoSpace) || errors.Is(made, ErrLimit) ||
		errors.Is(made, ErrConflict) {
		t.Fatal(made)
	}
	if whole.Name != "/a" || whole.Limit != "disk" || whole.LimitValue != 7 || whole.RetryAfter != time.Second ||
		!whole.Retryable {
		t.Errorf("%+v", whole)
	}
}

func TestEveryDetailOfTheWireHasAReasonOrLeavesItToTheCode(t *testing.T) {
	for number := range stmv1.ErrorReason_name {
		reason := stmv1.ErrorReason(number)
		_, known := reasonOfDetail[reason]
		switch reason {
		case stmv1.ErrorReason_ERROR_REASON_UNSPECIFIED,
			stmv1.ErrorReason_ERROR_REASON_NOT_COMMITTED,
			stmv1.ErrorReason_ERROR_REASON_ID_TOO_OLD:
			if known {
				t.Errorf("%v has a reason", reason)
			}
		default:
			if !known {
				t.Errorf("%v has no reason", reason)
			}
		}
	}
}

func TestADeadlineAndACancelStayTheContextsOwn(t *testing.T) {
	var whole *Error
	late, stopped := errorFromStatus(
		status.Error(codes.DeadlineExceeded, "late"),
		names{},
	), errorFromStatus(
		status.Error(codes.Canceled, "stopped"),
		names{},
	)
	if !errors.Is(late, context.DeadlineExceeded) || !errors.Is(stopped, context.Canceled) || errors.As(late, &whole) ||
		errors.As(stopped, &whole) {
		t.Error(late, stopped)
	}
}

func TestErrorsWithoutAReasonAreNoneOfTheNamed(t *testing.T) {
	made := errorFromStatus(status.Error(codes.Internal, "broken"), names{})
	for reason, named := range sentinelOf {
		if errors.Is(made, named) {
			t.Errorf("it is %s", reason)
		}
	}
}
