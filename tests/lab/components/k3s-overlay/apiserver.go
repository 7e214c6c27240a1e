// Copyright: nordic.gitops contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// The API server inside k3s, on upstream's Kubernetes. k3s' fork of Kubernetes hands out the authenticator and the handler
// of the running server and knows --advertise-port; upstream exports what is needed to build both from outside.

package executor

import (
	"context"
	"net"
	"net/http"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/cli/globalflag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

type servedAPI struct {
	Authenticator authenticator.Request
	Handler       http.Handler
}

// One value, taken by APIServerHandlers.
var servedAPIs = make(chan servedAPI, 1)

// apiServerCommand has the two methods of a cobra command that the executor calls.
type apiServerCommand struct {
	args []string
}

func newAPIServerCommand() *apiServerCommand {
	return &apiServerCommand{}
}

func (c *apiServerCommand) SetArgs(args []string) {
	c.args = args
}

func (c *apiServerCommand) ExecuteContext(ctx context.Context) error {
	run := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	sets := run.Flags()
	globalflag.AddGlobalFlags(sets.FlagSet("global"), "kube-apiserver", logs.SkipLoggingConfigurationFlags())
	options.AddCustomGlobalFlags(sets.FlagSet("generic"))
	for _, set := range sets.FlagSets {
		flags.AddFlagSet(set)
	}
	port := flags.Int("advertise-port", 0, "the port that the Service kubernetes sends to; that of the listener by default")
	if err := flags.Parse(c.args); err != nil {
		return err
	}

	// The loopback client must not log the warnings that it gives itself.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	if err := logsapi.ValidateAndApply(run.Logs, utilfeature.DefaultFeatureGate); err != nil {
		return err
	}
	completed, err := run.Complete()
	if err != nil {
		return err
	}
	if failures := completed.Validate(); len(failures) > 0 {
		return utilerrors.NewAggregate(failures)
	}
	config, err := apiapp.NewConfig(completed)
	if err != nil {
		return err
	}
	// After NewConfig: the loopback client in it has to use the real port.
	generic := config.ControlPlane.GenericConfig
	if *port != 0 {
		generic.SecureServing.Listener = advertised{generic.SecureServing.Listener, *port}
	}
	ready, err := config.Complete()
	if err != nil {
		return err
	}
	chain, err := apiapp.CreateServerChain(ready)
	if err != nil {
		return err
	}
	prepared, err := chain.PrepareRun()
	if err != nil {
		return err
	}
	servedAPIs <- servedAPI{generic.Authentication.Authenticator, chain.GenericAPIServer.Handler}
	return prepared.Run(ctx.Done())
}

// advertised is a listener that names another port than its own: k3s' proxy in front of the API server has it.
type advertised struct {
	net.Listener
	port int
}

func (a advertised) Addr() net.Addr {
	own, ok := a.Listener.Addr().(*net.TCPAddr)
	if !ok {
		return a.Listener.Addr()
	}
	return &net.TCPAddr{IP: own.IP, Port: a.port, Zone: own.Zone}
}
