// MongoDB's wire over SQLite: FerretDB, which tests use where there is no MongoDB.
//
//	ferretdb ADDRESS DIRECTORY [CERTIFICATE KEY]
//
// serves at ADDRESS (127.0.0.1:27017) what it keeps in DIRECTORY; with a certificate, by TLS alone. It says "serving"
// on standard error once it does. SIGTERM ends it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func run(arguments []string) error {
	if len(arguments) != 2 && len(arguments) != 4 {
		return fmt.Errorf("usage: ferretdb ADDRESS DIRECTORY [CERTIFICATE KEY]")
	}
	config := ferretdb.Config{
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Handler:   "sqlite",
		SQLiteURL: "file:" + arguments[1] + "/",
	}
	if len(arguments) == 4 {
		config.Listener.TLS = arguments[0]
		config.Listener.TLSCertFile = arguments[2]
		config.Listener.TLSKeyFile = arguments[3]
	} else {
		config.Listener.TCP = arguments[0]
	}
	if err := os.MkdirAll(arguments[1], 0o700); err != nil {
		return err
	}
	server, err := ferretdb.New(&config)
	if err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		// Known once it listens.
		server.MongoDBURI()
		fmt.Fprintln(os.Stderr, "serving")
	}()
	return server.Run(ended)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}
