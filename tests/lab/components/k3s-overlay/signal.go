// Copyright: nordic.gitops contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// In k3s kubelet and scheduler are one process and each sets up its signals; upstream's own version panics on the second call.

package server

import (
	"context"
	"os"
	"os/signal"
	"sync"
)

type shutdown struct {
	context  context.Context
	requests chan os.Signal
}

// Set up by the first who asks; all others share it.
var setUp = sync.OnceValue(func() shutdown {
	ctx, cancel := context.WithCancel(context.Background())
	made := shutdown{ctx, make(chan os.Signal, 2)}
	signal.Notify(made.requests, shutdownSignals...)
	go func() {
		<-made.requests
		cancel()
		// Whoever asks twice does not want to wait.
		<-made.requests
		os.Exit(1)
	}()
	return made
})

// SetupSignalHandler returns a channel that is closed by the first SIGTERM or SIGINT.
func SetupSignalHandler() <-chan struct{} {
	return SetupSignalContext().Done()
}

// SetupSignalContext returns a context that ends with the first SIGTERM or SIGINT.
func SetupSignalContext() context.Context {
	return setUp().context
}

// RequestShutdown does what a signal would; false when the process is already being ended twice over.
func RequestShutdown() bool {
	select {
	case setUp().requests <- shutdownSignals[0]:
		return true
	default:
		return false
	}
}
