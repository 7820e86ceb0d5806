// Command container serves container.go to stmd, over SQLite. Another database takes another driver, and other words in
// open and failed.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"modernc.org/sqlite"

	pb "stmd/examples/containers/go/stmv1"
)

const (
	connectionsMax = 16
	stopWithin     = 5 * time.Second
)

var codeOf = map[int]codes.Code{ // by SQLite's own
	3: codes.PermissionDenied, 8: codes.PermissionDenied, 23: codes.PermissionDenied, // PERM, READONLY, AUTH
	5: codes.Unavailable, 6: codes.Unavailable, 10: codes.Unavailable, 14: codes.Unavailable, // BUSY, LOCKED, IOERR, CANTOPEN
	11: codes.DataLoss, 26: codes.DataLoss, // CORRUPT, NOTADB
	13: codes.ResourceExhausted, 18: codes.ResourceExhausted, // FULL, TOOBIG
}

// failed gives an error of SQL the code that tells the daemon what to do.
func failed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return status.FromContextError(err).Err()
	}
	var said *sqlite.Error
	if errors.As(err, &said) {
		if code, known := codeOf[said.Code()&0xff]; known {
			return status.Error(code, err.Error())
		}
	}
	return status.Error(codes.Internal, err.Error())
}

// open: a commit returns, and others see it, when it is on disk; who finds another writing waits for it.
func open(file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connectionsMax)
	db.SetMaxIdleConns(connectionsMax)
	_, err = db.Exec(schema)
	return db, err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:7778", "host:port")
	file := flag.String("file", "container.sqlite", "of SQLite; made if absent")
	flag.Parse()
	db, err := open(*file)
	if err != nil {
		log.Fatalf("container: %s: %v", *file, err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("container: %v", err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32))
	keeps := &container{db: db}
	pb.RegisterContainerServiceServer(server, keeps)
	pb.RegisterAtomContainerServiceServer(server, keeps)
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stopped
		time.AfterFunc(stopWithin, server.Stop) // calls that are under way end first, but not for ever
		server.GracefulStop()
	}()
	fmt.Printf("container: serving on %s\n", listener.Addr())
	if err := server.Serve(listener); err != nil {
		log.Fatalf("container: %v", err)
	}
	db.Close()
}
