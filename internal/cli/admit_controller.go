// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/reports"
)

// controllerFlags are what the controller is told.
type controllerFlags struct {
	set       controlSet
	where     postureCluster
	interval  time.Duration
	listen    string
	admission bool
	secrets   bool
	rbac      bool
	elect     bool
	leases    string // namespace of the Lease
	verbose   bool
}

func newAdmitController(env Env) *cobra.Command {
	var f controllerFlags
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Keep PolicyReports of what already runs, and admission as exceptions come and end",
		Long: "Keep reports (openreports.io or wgpolicyk8s.io, whichever the cluster has defined) of every object that a control looks at: what changed is\n" +
			"judged, with those that look at it. When a PolicyException comes, goes or ends, the policies of admission are compiled without it. Run one\n" +
			"of it in a cluster, or several with --leader-elect; --rbac prints what it may.",
		Example: "  vigie admit controller --control severity:medium\n  vigie admit controller --rbac | kubectl apply -f -",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runController(cmd.Context(), env, &f) },
	}
	flags := cmd.Flags()
	f.set.flags(flags)
	f.where.flags(flags)
	flags.DurationVar(&f.interval, "interval", 10*time.Second, "between rounds: what changes meanwhile is judged together")
	flags.StringVar(&f.listen, "listen", ":9470", "address of /metrics and /healthz; empty: none")
	flags.BoolVar(&f.admission, "admission", true, "compile the policies of admission anew when exceptions come and end")
	flags.BoolVar(&f.secrets, "secrets", false, "watch Secrets too")
	flags.BoolVar(&f.elect, "leader-elect", false, "be one of several, of which one works: whoever holds the Lease "+reports.LeaseName)
	flags.StringVar(&f.leases, "lease-namespace", cluster.SettingsNamespace, "with --leader-elect: where the Lease is")
	flags.BoolVar(&f.rbac, "rbac", false, "print the ServiceAccount, ClusterRole and binding that it needs, and end")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log every round")
	return cmd
}

func runController(ctx context.Context, env Env, f *controllerFlags) error {
	controls, err := f.set.load()
	if err != nil {
		return Cannot(err)
	}
	wanted, _ := cluster.WantedBy(controls, f.secrets)
	if f.rbac {
		leases := ""
		if f.elect {
			leases = f.leases
		}
		_, err := fmt.Fprint(env.Out, reports.RBAC(wanted, "vigie-admit", cluster.SettingsNamespace, f.admission, leases))
		return err
	}
	client, err := f.where.connect(env)
	if err != nil {
		return Cannot(err)
	}
	target, err := client.Target()
	if err != nil {
		return err
	}
	f.set.target = target.String()
	judge, err := f.set.judge()
	if err != nil {
		return Cannot(err)
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(env.Err, &slog.HandlerOptions{Level: level}))
	c := reports.New(reports.Config{Client: client, Judge: judge, Wanted: wanted, Interval: f.interval, Admission: f.admission, Log: log, Now: env.Now})
	group, ctx := errgroup.WithContext(ctx)
	if f.listen != "" {
		if err := serveMetrics(ctx, group, f.listen, c); err != nil {
			return Cannot(err)
		}
	}
	group.Go(func() error { return f.lead(ctx, client, log, c.Run) })
	return group.Wait()
}

// lead runs the controller, when it is one of several as soon as it leads. Who was led and is no more ends, and is started anew by who started it.
func (f *controllerFlags) lead(ctx context.Context, client *cluster.Client, log *slog.Logger, run func(context.Context) error) error {
	if !f.elect {
		return run(ctx)
	}
	host, err := os.Hostname()
	if err != nil {
		return Cannot(fmt.Errorf("find a name for the election: %w", err))
	}
	e := &cluster.Election{Client: client, Namespace: f.leases, Name: reports.LeaseName, Identity: host + "_" + rand.Text(), Log: log}
	return e.Lead(ctx, run)
}

// serveMetrics answers until ctx ends.
func serveMetrics(ctx context.Context, group *errgroup.Group, address string, c prometheus.Collector) error {
	registry := prometheus.NewRegistry()
	for _, one := range []prometheus.Collector{c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(one); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return nil
}
