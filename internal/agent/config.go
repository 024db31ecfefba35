// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/enforce"
	destinations "github.com/vigie-io/vigie/internal/export/all"
	"github.com/vigie-io/vigie/internal/flow"
	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/sensor/l7"
	"github.com/vigie-io/vigie/internal/store"
)

// The defaults of Config.
const (
	DefaultStateDir  = "/var/lib/vigie"
	DefaultPolicyDir = "/etc/vigie/policies"
	DefaultSocket    = "/run/vigie/vigie.sock"
	DefaultHTTP      = "127.0.0.1:9780"
	DefaultLockFile  = "/run/vigie/vigie.lock"
	// DefaultTetragonAPI is where Tetragon's clients look. An agent beside Tetragon does without it.
	DefaultTetragonAPI = "127.0.0.1:54321"
	// DefaultHubbleAPI is where Hubble's clients look. An agent beside hubble-relay's port-forward does without it.
	DefaultHubbleAPI = "127.0.0.1:4245"
	DefaultRulesDir  = "/etc/vigie/rules"
	// Off as an address turns a listener off, and detections; On is their other state.
	Off = "off"
	On  = "on"
)

// Config is what an agent can be told. Each field is a flag of `vigie run` and, by its yaml name, a key of the
// configuration file.
type Config struct {
	StateDir    string `yaml:"state-dir"`
	PolicyDir   string `yaml:"policy-dir"`   // its *.yaml and *.yml are in force, and followed; it need not be there
	Socket      string `yaml:"socket"`       // unix socket of the API
	SocketGroup string `yaml:"socket-group"` // its members may use the socket beside root; empty: root alone
	HTTP        string `yaml:"http"`         // TCP address of API and metrics, or "off"
	TLSCert     string `yaml:"tls-cert"`
	TLSKey      string `yaml:"tls-key"`
	ClientCA    string `yaml:"client-ca-file"` // who signed the certificates that clients must have where TLS is spoken; empty: they need none
	TokenFile   string `yaml:"token-file"`     // bearer token that TCP clients must send
	// TetragonAPI is the TCP address of Tetragon's API, which is also at tetragon.sock in the state directory;
	// or "off" for neither.
	TetragonAPI string `yaml:"tetragon-api"`
	// HubbleAPI is the TCP address of Hubble's API, which is also at hubble.sock in the state directory; or "off" for neither.
	HubbleAPI string `yaml:"hubble-api"`
	LockFile  string `yaml:"lock-file"` // held while the agent runs: one agent on a host
	// NodeName is what this host is called in a cluster; empty for the host's name.
	NodeName string `yaml:"node-name"`

	// Sensors lists the sensors that run; all when empty.
	Sensors []string `yaml:"sensors"`
	// ArgsLimit is how many bytes of argv are kept, at most 8191.
	ArgsLimit int `yaml:"args-limit"`
	// MemoryEvents is how many events are kept in memory.
	MemoryEvents int `yaml:"memory-events"`
	// History is the directory where what happened is kept on disk; "off" for nowhere; empty for history in the state
	// directory, and for nowhere when a capture is played.
	History        string        `yaml:"history"`
	HistoryMaxSize ByteSize      `yaml:"history-max-size"` // of all of it
	HistoryMaxAge  time.Duration `yaml:"history-max-age"`
	// HistoryInterval is how long an event may wait to be written: what kill -9 loses at most.
	HistoryInterval time.Duration `yaml:"history-interval"`
	// ExitedProcesses is how many exited processes the table remembers.
	ExitedProcesses int `yaml:"exited-processes"`
	// Flows turns flows and the map on or off.
	Flows string `yaml:"flows"`
	// MaxFlows is how many conversations are followed at once, about 500 bytes each.
	MaxFlows int `yaml:"max-flows"`
	// FlowInterval is how often a conversation is reported that goes on; the first time after two seconds.
	FlowInterval time.Duration `yaml:"flow-interval"`
	// ProgramStats has the kernel measure the run time of BPF programs (a few nanoseconds each run).
	ProgramStats bool `yaml:"program-stats"`
	// Handover leaves the programs running for the next agent when this one stops, so that an upgrade misses
	// nothing. Needs bpffs.
	Handover bool `yaml:"handover"`

	// MaxPolicies is how many policies there can be.
	MaxPolicies int `yaml:"max-policies"`
	// EnforceBackends are the back-ends that may carry policies; all when empty. For tests, and for hosts where one
	// of them must not be used.
	EnforceBackends []string `yaml:"enforce-backends"`
	// FanotifyMounts are directories, and kinds of file systems ("overlay"): fanotify asks about opens only on mounts at or
	// below these, or of these kinds; anywhere when empty.
	FanotifyMounts []string `yaml:"fanotify-mounts"`
	// Rules turns detections on or off; RulesDir holds files of rules beside those that come with vigie.
	Rules    string `yaml:"rules"`
	RulesDir string `yaml:"rules-dir"`

	// Destinations are where events go by themselves.
	destinations.Destinations `yaml:",inline"`

	// L7 says whose requests are looked at: "off", "all", or patterns for names of workloads with commas between them.
	L7 string `yaml:"l7"`

	// Kube is how to reach Kubernetes' API server: "auto" (as the pod that the agent runs in), "off" or a kubeconfig file.
	Kube string `yaml:"kube"`
	// KubePods says whose pods are followed: "cluster" or "node".
	KubePods string `yaml:"kube-pods"`
	// KubeEvents has denials and alerts told as Kubernetes Events, on or off.
	KubeEvents string `yaml:"kube-events"`
	// KubeReports has them written into reports, where the cluster has these, on or off.
	KubeReports string `yaml:"kube-reports"`

	// Replay is a capture file to play in place of the kernel; needs no privilege.
	Replay string `yaml:"replay"`
	// Speed is how fast to play: 1 as recorded, 0 as fast as it goes.
	Speed float64 `yaml:"speed"`
}

// Default is the configuration of an agent that was told nothing.
func Default() Config {
	return Config{StateDir: DefaultStateDir, PolicyDir: DefaultPolicyDir, Socket: DefaultSocket, HTTP: DefaultHTTP, LockFile: DefaultLockFile,
		TetragonAPI: DefaultTetragonAPI, HubbleAPI: DefaultHubbleAPI,
		ArgsLimit: 4096, MemoryEvents: 20000, HistoryMaxSize: store.DefaultMaxSize, HistoryMaxAge: store.DefaultMaxAge, HistoryInterval: store.DefaultInterval, ExitedProcesses: 4096,
		Flows: On, MaxFlows: flow.DefaultMaxFlows, FlowInterval: flow.DefaultInterval, Rules: On, RulesDir: DefaultRulesDir,
		MaxPolicies: enforce.DefaultMaxPolicies, Destinations: destinations.Default(), L7: Off, Kube: kube.Auto, KubePods: KubePodsCluster, KubeEvents: On, KubeReports: On, Speed: 1}
}

// tetragonSocket is where the unix socket of Tetragon's API is; empty when it is off.
func (c *Config) tetragonSocket() string { return c.socketOf(c.TetragonAPI, "tetragon.sock") }

// hubbleSocket is where the unix socket of Hubble's API is; empty when it is off.
func (c *Config) hubbleSocket() string { return c.socketOf(c.HubbleAPI, "hubble.sock") }

func (c *Config) socketOf(addr, name string) string {
	if addr == Off || addr == "" {
		return ""
	}
	return filepath.Join(c.StateDir, name)
}

// Validate reports everything that is wrong, each with the name of its field.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
	}
	if c.StateDir == "" || !filepath.IsAbs(c.StateDir) {
		bad("state-dir", "%q is no absolute path", c.StateDir)
	}
	if !filepath.IsAbs(c.PolicyDir) {
		bad("policy-dir", "%q is no absolute path", c.PolicyDir)
	}
	if c.Socket != Off && !filepath.IsAbs(c.Socket) {
		bad("socket", "%q is no absolute path; use %q for none", c.Socket, Off)
	}
	if len(c.Socket) > 107 {
		bad("socket", "path of %d bytes is longer than the 107 that a unix socket takes", len(c.Socket))
	}
	for option, socket := range map[string]string{"tetragon-api": c.tetragonSocket(), "hubble-api": c.hubbleSocket()} {
		if len(socket) > 107 {
			bad("state-dir", "%s is longer than the 107 bytes that a unix socket takes; use %s: off or a shorter directory", socket, option)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls-cert", "certificate and tls-key belong together: give both or none")
	}
	if c.ArgsLimit < 0 || c.ArgsLimit > 8191 {
		bad("args-limit", "%d is outside 0 to 8191", c.ArgsLimit)
	}
	if c.MemoryEvents < 0 || c.MemoryEvents > 10_000_000 {
		bad("memory-events", "%d is outside 0 to 10000000", c.MemoryEvents)
	}
	c.checkHistory(bad)
	if c.ExitedProcesses < 1 {
		bad("exited-processes", "%d must be at least 1", c.ExitedProcesses)
	}
	if c.Flows != On && c.Flows != Off {
		bad("flows", "%q: use %q or %q", c.Flows, On, Off)
	}
	if c.MaxFlows < 1 || c.MaxFlows > 10_000_000 {
		bad("max-flows", "%d is outside 1 to 10000000", c.MaxFlows)
	}
	if c.FlowInterval < 5*time.Second {
		bad("flow-interval", "%v must be at least 5s", c.FlowInterval)
	}
	if c.Rules != On && c.Rules != Off {
		bad("rules", "%q: use %q or %q", c.Rules, On, Off)
	}
	if !filepath.IsAbs(c.RulesDir) {
		bad("rules-dir", "%q is no absolute path", c.RulesDir)
	}
	if c.Speed < 0 {
		bad("speed", "%v must not be negative", c.Speed)
	}
	c.checkEnforcement(bad)
	c.checkKube(bad)
	c.CheckExports(bad)
	if _, err := l7.ParseChoice(c.L7, nil); err != nil {
		bad("l7", "%v", err)
	}
	known := sensorNames()
	for _, s := range c.Sensors {
		if !slices.Contains(known, s) {
			bad("sensors", "there is no sensor %q; known are %s", s, strings.Join(known, ", "))
		}
	}
	return errors.Join(errs...)
}
