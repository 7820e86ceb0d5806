package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sort"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "stmd/examples/containers/go/stmv1"
)

// What a value is in the tables: JSON as protobuf writes it, {"vector":{"items":[{"integer":"1"}]}}.

func read(text string) (*pb.Value, error) {
	value := &pb.Value{}
	if err := protojson.Unmarshal([]byte(text), value); err != nil {
		return nil, status.Errorf(codes.DataLoss, "what is kept is no value: %v", err)
	}
	return value, nil
}

// write refuses what would not be kept whole: no value, or one with fields that this program does not know.
func write(value *pb.Value) (string, error) {
	spaced, err := protojson.Marshal(value)
	if back, _ := read(string(spaced)); err != nil || value.GetKind() == nil || !proto.Equal(back, value) {
		return "", status.Error(codes.InvalidArgument, "value: of a kind that this container does not know")
	}
	var text bytes.Buffer
	err = json.Compact(&text, spaced) // protojson puts spaces in by chance
	return text.String(), err
}

// plain is the same of equal values, and of no others: maps and sets have no order.
func plain(value *pb.Value) string {
	var parts []string
	add := func(items *pb.Items) {
		for _, item := range items.Items {
			parts = append(parts, plain(item))
		}
	}
	switch kind := value.Kind.(type) {
	case *pb.Value_List:
		add(kind.List)
	case *pb.Value_Vector:
		add(kind.Vector)
	case *pb.Value_Set:
		add(kind.Set)
		sort.Strings(parts)
	case *pb.Value_Map:
		for _, entry := range kind.Map.Entries {
			parts = append(parts, plain(entry.Key)+plain(entry.Value))
		}
		sort.Strings(parts)
	case *pb.Value_Tagged:
		parts = append(parts, kind.Tagged.Tag, plain(kind.Tagged.Value))
	default:
		scalar, _ := write(value)
		parts = append(parts, scalar)
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%T%q", value.Kind, parts)))
	return string(sum[:])
}
