// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	xterm "golang.org/x/term"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/cli/live"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// Agent runs an agent until ctx ends: agent.Run, or a test's own.
type Agent func(ctx context.Context, c agent.Config, d agent.Deps) error

// runOptions are the flags that concern the command and not the agent.
type runOptions struct {
	config    string
	quiet     bool
	logLevel  string
	logFormat string
}

// NewRun is `vigie run`. defaults is the configuration of an agent that was told nothing.
func NewRun(env Env, defaults agent.Config, run Agent) *cobra.Command {
	c, o := defaults, runOptions{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent, with a live view on a terminal",
		Long: "Run the agent: it sees what the workloads of this host do, and answers the other commands.\n\n" +
			"On a terminal it shows live what happens; --quiet and --export-json - leave the terminal alone. Logs go to standard\n" +
			"error. Seeing needs root; --replay plays a recorded capture instead and needs no privilege.\n\n" +
			"--config names a YAML file with the same names: `http: off`. Flags win over the file. SIGHUP has files reopened,\n" +
			"unless it was started from a terminal, which has hung up then.",
		Example: "  sudo vigie run\n  sudo vigie run --quiet --export-json /var/log/vigie/events.json\n  vigie run --replay capture.vigie --speed 4",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config != "" {
				if err := applyConfig(o.config, cmd.Flags()); err != nil {
					return Cannot(err)
				}
			}
			level, handler, err := o.logging()
			if err != nil {
				return Cannot(err)
			}
			c.NodeName = cmp.Or(c.NodeName, env.Getenv("NODE_NAME"))
			if err := rootless(&c, cmd.Flags(), env.Getenv); err != nil {
				return Cannot(err)
			}
			r := runner{env: env, run: run, config: c, level: level, handler: handler}
			ctx, stop := r.onHangup(cmd.Context())
			defer stop()
			if r.canShow(o.quiet) {
				return r.show(ctx)
			}
			return r.start(ctx, r.handler(env.Err, level))
		},
	}
	configFlags(cmd.Flags(), &c)
	exportFlags(cmd, &c)
	o.flags(cmd)
	return cmd
}

func configFlags(fs *pflag.FlagSet, c *agent.Config) {
	fs.StringVar(&c.StateDir, "state-dir", c.StateDir, "directory for what survives a restart")
	fs.StringVar(&c.PolicyDir, "policy-dir", c.PolicyDir, "directory whose *.yaml policies are in force, as they are changed there")
	fs.StringVar(&c.Socket, "socket", c.Socket, "unix socket of the API; off: none")
	fs.StringVar(&c.SocketGroup, "socket-group", c.SocketGroup, "group whose members may use the socket beside root")
	fs.StringVar(&c.HTTP, "http", c.HTTP, "TCP address of the web page, the API and /metrics; off: none. Off loopback it needs TLS and a token")
	fs.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "PEM certificate for --http and --hubble-api")
	fs.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "PEM key for --http and --hubble-api")
	fs.StringVar(&c.ClientCA, "client-ca-file", c.ClientCA, "PEM file of who signed the certificates that clients must present where TLS is spoken, beside the token")
	fs.StringVar(&c.TokenFile, "token-file", c.TokenFile, "file with the token that clients of --http must present")
	fs.StringVar(&c.TetragonAPI, "tetragon-api", c.TetragonAPI, "TCP address on loopback for Tetragon's clients, beside tetragon.sock in --state-dir; off: neither")
	fs.StringVar(&c.HubbleAPI, "hubble-api", c.HubbleAPI, "TCP address for Hubble's clients, beside hubble.sock in --state-dir; off: neither. Off loopback it needs TLS and a token")
	fs.StringVar(&c.NodeName, "node-name", c.NodeName, "what this host is called in a cluster (default $NODE_NAME, then the host's name)")
	fs.StringVar(&c.LockFile, "lock-file", c.LockFile, "held while the agent runs, so that there is one on a host")
	fs.StringSliceVar(&c.Sensors, "sensors", c.Sensors, "only these sensors (default all)")
	fs.IntVar(&c.ArgsLimit, "args-limit", c.ArgsLimit, "bytes of a command line to keep, at most 8191")
	fs.IntVar(&c.MemoryEvents, "memory-events", c.MemoryEvents, "events to keep in memory for queries")
	fs.StringVar(&c.History, "history", c.History, "directory where what happened is kept as Parquet files; off: nowhere (default history in --state-dir)")
	fs.Var(&c.HistoryMaxSize, "history-max-size", "of history on disk; the oldest goes first")
	fs.DurationVar(&c.HistoryMaxAge, "history-max-age", c.HistoryMaxAge, "of history on disk")
	fs.DurationVar(&c.HistoryInterval, "history-interval", c.HistoryInterval, "how long an event may wait to be written to history: what a crash loses at most")
	fs.IntVar(&c.ExitedProcesses, "exited-processes", c.ExitedProcesses, "ended processes to remember")
	fs.StringVar(&c.Flows, "flows", c.Flows, "conversations and the map of them: on or off")
	fs.IntVar(&c.MaxFlows, "max-flows", c.MaxFlows, "conversations to follow at once")
	fs.DurationVar(&c.FlowInterval, "flow-interval", c.FlowInterval, "how often to report a conversation that goes on")
	fs.IntVar(&c.MaxPolicies, "max-policies", c.MaxPolicies, "policies that there can be")
	fs.StringSliceVar(&c.EnforceBackends, "enforce-backends", c.EnforceBackends, "back-ends that may carry policies: lsm, fmod_ret, fanotify, execkill, network, after; all by default")
	fs.StringSliceVar(&c.FanotifyMounts, "fanotify-mounts", c.FanotifyMounts, "directories, or kinds of file systems (overlay): fanotify watches only mounts at or below them, or of them; anywhere by default")
	fs.BoolVar(&c.ProgramStats, "program-stats", c.ProgramStats, "have the kernel measure the run time of the programs")
	fs.BoolVar(&c.Handover, "handover", c.Handover, "leave the programs running for the next agent when this one stops; needs bpffs")
	fs.StringVar(&c.Rules, "rules", c.Rules, "detections: on or off")
	fs.StringVar(&c.RulesDir, "rules-dir", c.RulesDir, "directory with files of rules beside those that come with vigie")
	fs.StringVar(&c.L7, "l7", c.L7, "whose requests (HTTP, gRPC, SQL, Redis, Kafka) to look at: off, all, or names of workloads, * standing for anything; see docs/l7.md")
	fs.StringVar(&c.Kube, "kube", c.Kube, "how to reach Kubernetes' API server: auto (as the pod that the agent runs in), off, or a kubeconfig file")
	fs.StringVar(&c.KubePods, "kube-pods", c.KubePods, "whose pods to follow in Kubernetes: cluster or node")
	fs.StringVar(&c.KubeReports, "kube-reports", c.KubeReports, "tell denials and alerts in reports on the pods, where the cluster has openreports.io or wgpolicyk8s.io: on or off")
	fs.StringVar(&c.KubeEvents, "kube-events", c.KubeEvents, "tell denials and alerts as Kubernetes Events on the pods: on or off")
	fs.StringVar(&c.Replay, "replay", c.Replay, "play this capture of vigie record instead of looking at this host")
	fs.Float64Var(&c.Speed, "speed", c.Speed, "how fast to replay: 1 as recorded, 0 as fast as it goes")
}

func (o *runOptions) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&o.config, "config", "", "YAML file with the names of these flags")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "no live view")
	o.logFlags(cmd)
}

func (o *runOptions) logFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&o.logFormat, "log-format", "text", "text or json")
	for flag, values := range map[string][]string{"log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// logging checks the log flags. The handler writes where it is told. The level can be changed later.
func (o *runOptions) logging() (*slog.LevelVar, func(io.Writer, slog.Leveler) slog.Handler, error) {
	level := new(slog.LevelVar)
	switch o.logLevel {
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, fmt.Errorf("--log-level %q: the levels are debug, info, warn, error", o.logLevel)
	}
	switch o.logFormat {
	case "text":
		return level, func(w io.Writer, l slog.Leveler) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})
		}, nil
	case "json":
		return level, func(w io.Writer, l slog.Leveler) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})
		}, nil
	}
	return nil, nil, fmt.Errorf("--log-format %q: the formats are text, json", o.logFormat)
}

// rootless moves the defaults to places that a user other than root can write, when a capture is
// played: it needs no privilege.
func rootless(c *agent.Config, flags *pflag.FlagSet, getenv func(string) string) error {
	if c.Replay == "" || os.Getuid() == 0 {
		return nil
	}
	dir := getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return fmt.Errorf("find a place for the socket: %w: give --socket, --lock-file and --state-dir", err)
		}
	}
	dir += "/vigie"
	for flag, value := range map[string]*string{"socket": &c.Socket, "lock-file": &c.LockFile, "state-dir": &c.StateDir} {
		if *value == flags.Lookup(flag).DefValue {
			*value = dir + map[string]string{"socket": "/vigie.sock", "lock-file": "/vigie.lock", "state-dir": "/state"}[flag]
		}
	}
	return nil
}

// runner runs an agent once.
type runner struct {
	env     Env
	run     Agent
	config  agent.Config
	level   *slog.LevelVar
	handler func(io.Writer, slog.Leveler) slog.Handler
	reload  <-chan struct{}
	serving func(page string) // may be nil
}

// onHangup makes SIGHUP a reload, or the end where a terminal has hung up. The returned function undoes that.
func (r *runner) onHangup(ctx context.Context) (context.Context, func()) {
	if r.terminal() {
		return signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	reload := make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case reload <- struct{}{}:
				default: // one is asked for already
				}
			}
		}
	}()
	r.reload = reload
	return ctx, func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}

// start runs the agent until it ends.
func (r *runner) start(ctx context.Context, log slog.Handler) error {
	err := r.run(ctx, r.config, agent.Deps{Log: slog.New(log), LogLevel: r.level, Version: r.env.Version, Now: r.env.Now, Reload: r.reload, Serving: r.serving})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// canShow reports whether there is a terminal for the live view, and nothing else on it.
func (r *runner) canShow(quiet bool) bool {
	return !quiet && r.config.ExportJSON != "-" && r.config.Socket != agent.Off && r.env.screen().Terminal && r.terminal()
}

// terminal reports whether somebody can type.
func (r *runner) terminal() bool {
	in, ok := r.env.In.(*os.File)
	return ok && xterm.IsTerminal(int(in.Fd()))
}

// show runs the agent with the live view before it: a client of the agent's own socket. The log is
// held back and printed after.
func (r *runner) show(ctx context.Context) error {
	to := target{socket: r.config.Socket}
	client, err := to.dial()
	if err != nil {
		return err
	}
	log, notices := new(heldLog), make(chan string, 16)
	r.serving = func(page string) {
		select {
		case notices <- "web page: " + page:
		default: // the log has it
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	agentEnd := make(chan error, 1)
	viewCtx, endView := context.WithCancel(ctx)
	defer endView()
	go func() {
		err := r.start(ctx, noticeHandler{r.handler(log, r.level), notices})
		if err != nil || r.config.Replay == "" {
			endView() // without an agent there is nothing to see; what a replay left stays
		}
		agentEnd <- err
	}()
	viewErr := live.Run(viewCtx, liveSource{client}, live.Options{Start: live.TabEvents, Style: r.env.screen().Style, In: r.env.In, Out: r.env.Out,
		Environ: r.env.Environ, Now: r.env.Now, Notices: notices, Explain: to.explain, Starting: r.starting()})
	cancel()
	agentErr := <-agentEnd
	log.printTo(r.env.Err)
	if agentErr != nil {
		return agentErr
	}
	return viewErr
}

// starting is what can be said before the agent answers.
func (r *runner) starting() string {
	what := "loading programs into the kernel …"
	if r.config.Replay != "" {
		what = "opening the capture …"
	}
	host, err := os.Hostname()
	if err != nil {
		return what
	}
	return term.Escape(host) + "  " + what
}
