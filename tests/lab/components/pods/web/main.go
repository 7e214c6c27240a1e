// Copyright: nordic.gitops contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A web server that no roll-out and no drain takes a request from: asked to end, it says at once that it is not ready any more,
// and serves on until the last node has heard of that.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	grace, err := time.ParseDuration(setting("GRACE", "8s"))
	if err != nil {
		log.Fatalf("GRACE: %v", err)
	}
	answer, err := json.Marshal(map[string]string{"version": setting("VERSION", "unknown"), "hostname": host})
	if err != nil {
		log.Fatal(err)
	}

	var ending atomic.Bool
	routes := http.NewServeMux()
	routes.HandleFunc("/", func(out http.ResponseWriter, request *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		out.Write(append(answer, '\n'))
	})
	routes.HandleFunc("/readyz", func(out http.ResponseWriter, request *http.Request) {
		if ending.Load() {
			http.Error(out, "ending", http.StatusServiceUnavailable)
			return
		}
		out.Write([]byte("ok\n"))
	})
	server := &http.Server{Addr: setting("LISTEN", ":8080"), Handler: routes, ReadHeaderTimeout: 10 * time.Second}

	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-asked
		ending.Store(true)
		// Answers now say that their connection ends, so no client is about to use one when it is closed.
		server.SetKeepAlivesEnabled(false)
		log.Printf("asked to end, serving for another %s", grace)
		time.Sleep(grace)
		// What is being answered is answered to its end.
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(limit); err != nil {
			log.Printf("ended with requests left: %v", err)
		}
	}()
	log.Printf("serving on %s", server.Addr)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-done
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
