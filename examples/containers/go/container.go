package main

import (
	"context"
	"database/sql"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "stmd/examples/containers/go/stmv1"
)

// What PostgreSQL takes as well, with $1 for ?.
const schema = `
	CREATE TABLE IF NOT EXISTS states (name TEXT, stamp TEXT, value TEXT NOT NULL, PRIMARY KEY (name, stamp));
	CREATE TABLE IF NOT EXISTS atoms (name TEXT PRIMARY KEY, value TEXT NOT NULL, version BIGINT NOT NULL)`

// container keeps values in tables of SQL: each verb is a statement. Any number of calls at once.
type container struct {
	pb.UnimplementedContainerServiceServer
	pb.UnimplementedAtomContainerServiceServer
	db *sql.DB
}

func (c *container) Init(context.Context, *pb.InitRequest) (*pb.InitResponse, error) {
	return &pb.InitResponse{}, nil // nothing is kept for a name itself
}

func (c *container) Destroy(context.Context, *pb.DestroyRequest) (*pb.DestroyResponse, error) {
	return &pb.DestroyResponse{}, nil
}

func (c *container) GetStateAt(ctx context.Context, q *pb.GetStateAtRequest) (*pb.GetStateAtResponse, error) {
	value, err := c.get(ctx, "SELECT value FROM states WHERE name = ? AND stamp = ?", q.Name, q.Stamp)
	return &pb.GetStateAtResponse{Value: value}, err
}

func (c *container) SetStateAt(ctx context.Context, q *pb.SetStateAtRequest) (*pb.SetStateAtResponse, error) {
	text, err := write(q.Value)
	if err == nil {
		err = c.exec(ctx, "INSERT INTO states (name, stamp, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", q.Name, q.Stamp, text)
	}
	if err != nil {
		return nil, err
	}
	there, err := c.get(ctx, "SELECT value FROM states WHERE name = ? AND stamp = ?", q.Name, q.Stamp)
	if err == nil && there == nil {
		err = status.Error(codes.Aborted, "the stamp was deleted meanwhile")
	} else if err == nil && plain(there) != plain(q.Value) {
		err = status.Error(codes.AlreadyExists, "another value is under that stamp")
	}
	return &pb.SetStateAtResponse{}, err
}

func (c *container) DeleteStateAt(ctx context.Context, q *pb.DeleteStateAtRequest) (*pb.DeleteStateAtResponse, error) {
	return &pb.DeleteStateAtResponse{}, c.exec(ctx, "DELETE FROM states WHERE name = ? AND stamp = ?", q.Name, q.Stamp)
}

func (c *container) InitAtom(context.Context, *pb.InitAtomRequest) (*pb.InitAtomResponse, error) {
	return &pb.InitAtomResponse{}, nil
}

func (c *container) DestroyAtom(ctx context.Context, q *pb.DestroyAtomRequest) (*pb.DestroyAtomResponse, error) {
	return &pb.DestroyAtomResponse{}, c.exec(ctx, "DELETE FROM atoms WHERE name = ? AND version < ?", q.Name, q.Version)
}

func (c *container) GetState(ctx context.Context, q *pb.GetStateRequest) (*pb.GetStateResponse, error) {
	value, err := c.get(ctx, "SELECT value FROM atoms WHERE name = ?", q.Name)
	return &pb.GetStateResponse{Value: value}, err
}

func (c *container) SetState(ctx context.Context, q *pb.SetStateRequest) (*pb.SetStateResponse, error) {
	text, err := write(q.Value)
	if err != nil {
		return nil, err
	}
	return &pb.SetStateResponse{}, c.exec(ctx, `INSERT INTO atoms (name, value, version) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE
		SET value = excluded.value, version = excluded.version WHERE excluded.version >= atoms.version`, q.Name, text, q.Version)
}

func (c *container) exec(ctx context.Context, statement string, of ...any) error {
	_, err := c.db.ExecContext(ctx, statement, of...)
	return failed(err)
}

// get returns nil when there is no such row.
func (c *container) get(ctx context.Context, query string, of ...any) (*pb.Value, error) {
	var text string
	if err := c.db.QueryRowContext(ctx, query, of...).Scan(&text); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, failed(err)
	}
	return read(text)
}
