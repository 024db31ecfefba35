// SPDX-License-Identifier: Apache-2.0

package tracing

// The types of a TracingPolicy as it is written: apiVersion cilium.io/v1alpha1, as in Tetragon 1.7. Names are the
// YAML's with a capital; what a field means is in docs/tetragon.md.

// Document is one YAML document.
type Document struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   Metadata `yaml:"metadata"`
	Spec       Spec     `yaml:"spec"`
}

// Metadata is what Kubernetes keeps of an object, as far as it is used.
type Metadata struct {
	Name        string            `yaml:"name"`
	Namespace   string            `yaml:"namespace"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// Spec is the policy itself.
type Spec struct {
	Kprobes           []FunctionSpec      `yaml:"kprobes"`
	Tracepoints       []TracepointSpec    `yaml:"tracepoints"`
	Loader            bool                `yaml:"loader"`
	Uprobes           []UprobeSpec        `yaml:"uprobes"`
	LsmHooks          []LsmSpec           `yaml:"lsmhooks"`
	Usdts             []UsdtSpec          `yaml:"usdts"`
	Fentries          []FunctionSpec      `yaml:"fentries"`
	PodSelector       *LabelSelector      `yaml:"podSelector"`
	ContainerSelector *LabelSelector      `yaml:"containerSelector"`
	HostSelector      *LabelSelector      `yaml:"hostSelector"`
	NodeSelector      *LabelSelector      `yaml:"nodeSelector"`
	Lists             []ListSpec          `yaml:"lists"`
	Enforcers         []EnforcerSpec      `yaml:"enforcers"`
	Options           []OptionSpec        `yaml:"options"`
	SelectorsMacros   map[string]Selector `yaml:"selectorsMacros"`
}

// FunctionSpec is a kprobe or an fentry.
type FunctionSpec struct {
	Call            string     `yaml:"call"`
	Return          bool       `yaml:"return"`
	Syscall         *bool      `yaml:"syscall"` // true when it is not there
	Message         string     `yaml:"message"`
	Args            []Arg      `yaml:"args"`
	Data            []Arg      `yaml:"data"`
	ReturnArg       *Arg       `yaml:"returnArg"`
	ReturnArgAction string     `yaml:"returnArgAction"`
	Selectors       []Selector `yaml:"selectors"`
	Tags            []string   `yaml:"tags"`
	Ignore          *struct {
		CallNotFound bool `yaml:"callNotFound"`
	} `yaml:"ignore"`
}

// TracepointSpec is a tracepoint, by its format or with its raw arguments.
type TracepointSpec struct {
	Subsystem string     `yaml:"subsystem"`
	Event     string     `yaml:"event"`
	Message   string     `yaml:"message"`
	Args      []Arg      `yaml:"args"`
	Selectors []Selector `yaml:"selectors"`
	Tags      []string   `yaml:"tags"`
	Raw       bool       `yaml:"raw"`
}

// UprobeSpec is functions of a program or library.
type UprobeSpec struct {
	Path          string     `yaml:"path"`
	BTFPath       string     `yaml:"btfPath"`
	Symbols       []string   `yaml:"symbols"`
	Offsets       []uint64   `yaml:"offsets"`
	Addrs         []uint64   `yaml:"addrs"`
	RefCtrOffsets []uint64   `yaml:"refCtrOffsets"`
	Message       string     `yaml:"message"`
	Selectors     []Selector `yaml:"selectors"`
	Args          []Arg      `yaml:"args"`
	Data          []Arg      `yaml:"data"`
	Tags          []string   `yaml:"tags"`
	Return        bool       `yaml:"return"`
	ReturnArg     *Arg       `yaml:"returnArg"`
	BinaryDigests []string   `yaml:"binaryDigests"`
	Ignore        *struct {
		DigestVerificationFailure bool `yaml:"digestVerificationFailure"`
	} `yaml:"ignore"`
}

// UsdtSpec is a statically defined probe of a program or library.
type UsdtSpec struct {
	Path      string     `yaml:"path"`
	BTFPath   string     `yaml:"btfPath"`
	Provider  string     `yaml:"provider"`
	Name      string     `yaml:"name"`
	Tags      []string   `yaml:"tags"`
	Message   string     `yaml:"message"`
	Args      []Arg      `yaml:"args"`
	Selectors []Selector `yaml:"selectors"`
}

// LsmSpec is a hook of the kernel's security modules.
type LsmSpec struct {
	Hook      string     `yaml:"hook"`
	Message   string     `yaml:"message"`
	Args      []Arg      `yaml:"args"`
	Selectors []Selector `yaml:"selectors"`
	Tags      []string   `yaml:"tags"`
}

// Arg is a value to read.
type Arg struct {
	Index         uint32 `yaml:"index"`
	Type          string `yaml:"type"`
	Resolve       string `yaml:"resolve"`
	SizeArgIndex  uint32 `yaml:"sizeArgIndex"` // counted from 1; 0 is none
	ReturnCopy    bool   `yaml:"returnCopy"`
	MaxData       bool   `yaml:"maxData"`
	Label         string `yaml:"label"`
	Source        string `yaml:"source"`
	BTFType       string `yaml:"btfType"`
	BTFTypeModule string `yaml:"btfTypeModule"`
}

// Selector is a filter and what to do when all of it matches.
type Selector struct {
	Label                  string            `yaml:"label"`
	MatchPIDs              []PIDMatch        `yaml:"matchPIDs"`
	MatchArgs              []ArgMatch        `yaml:"matchArgs"`
	MatchData              []ArgMatch        `yaml:"matchData"`
	MatchActions           []Action          `yaml:"matchActions"`
	MatchReturnArgs        []ArgMatch        `yaml:"matchReturnArgs"`
	MatchReturnActions     []Action          `yaml:"matchReturnActions"`
	MatchBinaries          []BinaryMatch     `yaml:"matchBinaries"`
	MatchParentBinaries    []BinaryMatch     `yaml:"matchParentBinaries"`
	MatchNamespaces        []NamespaceMatch  `yaml:"matchNamespaces"`
	MatchNamespaceChanges  []NamespaceChange `yaml:"matchNamespaceChanges"`
	MatchCapabilities      []CapabilityMatch `yaml:"matchCapabilities"`
	MatchCapabilityChanges []CapabilityMatch `yaml:"matchCapabilityChanges"`
	MatchWorkloads         *WorkloadMatch    `yaml:"matchWorkloads"`
	Macros                 []string          `yaml:"macros"`
}

// PIDMatch is one entry of matchPIDs.
type PIDMatch struct {
	Operator       string   `yaml:"operator"`
	Values         []uint32 `yaml:"values"`
	IsNamespacePID bool     `yaml:"isNamespacePID"`
	FollowForks    bool     `yaml:"followForks"`
}

// ArgMatch is one entry of matchArgs, matchData or matchReturnArgs.
type ArgMatch struct {
	Index    uint32   `yaml:"index"`
	Args     []uint32 `yaml:"args"`
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values"`
}

// BinaryMatch is one entry of matchBinaries or matchParentBinaries.
type BinaryMatch struct {
	Operator       string   `yaml:"operator"`
	Values         []string `yaml:"values"`
	FollowChildren bool     `yaml:"followChildren"`
}

// NamespaceMatch is one entry of matchNamespaces.
type NamespaceMatch struct {
	Namespace string   `yaml:"namespace"`
	Operator  string   `yaml:"operator"`
	Values    []string `yaml:"values"`
}

// NamespaceChange is one entry of matchNamespaceChanges.
type NamespaceChange struct {
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values"`
}

// CapabilityMatch is one entry of matchCapabilities or matchCapabilityChanges.
type CapabilityMatch struct {
	Type                  string   `yaml:"type"`
	Operator              string   `yaml:"operator"`
	IsNamespaceCapability bool     `yaml:"isNamespaceCapability"`
	Values                []string `yaml:"values"`
}

// WorkloadMatch is matchWorkloads.
type WorkloadMatch struct {
	PodSelector       *LabelSelector `yaml:"podSelector"`
	ContainerSelector *LabelSelector `yaml:"containerSelector"`
	HostSelector      *LabelSelector `yaml:"hostSelector"`
}

// LabelSelector selects by labels, as in Kubernetes: all of it must hold; an empty one selects everything.
type LabelSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []LabelExpression `yaml:"matchExpressions"`
}

// LabelExpression is one entry of matchExpressions.
type LabelExpression struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"` // In, NotIn, Exists, DoesNotExist
	Values   []string `yaml:"values"`
}

// Action is what to do on a match.
type Action struct {
	Action           string   `yaml:"action"`
	ArgURL           string   `yaml:"argUrl"`
	ArgFqdn          string   `yaml:"argFqdn"`
	ArgError         int32    `yaml:"argError"`
	ArgSig           uint32   `yaml:"argSig"`
	ArgSock          uint32   `yaml:"argSock"`
	ArgIndex         uint32   `yaml:"argIndex"`
	ArgValue         uint32   `yaml:"argValue"`
	ArgRegs          []string `yaml:"argRegs"`
	ArgNewSymbol     string   `yaml:"argNewSymbol"`
	ArgNewAddr       uint64   `yaml:"argNewAddr"`
	ArgNewOffset     int64    `yaml:"argNewOffset"`
	RateLimit        string   `yaml:"rateLimit"`
	RateLimitScope   string   `yaml:"rateLimitScope"`
	KernelStackTrace bool     `yaml:"kernelStackTrace"`
	UserStackTrace   bool     `yaml:"userStackTrace"`
	ImaHash          bool     `yaml:"imaHash"`
}

// ListSpec is a list of functions or system calls.
type ListSpec struct {
	Name      string   `yaml:"name"`
	Values    []string `yaml:"values"`
	Type      string   `yaml:"type"`
	Pattern   *string  `yaml:"pattern"`
	Validated bool     `yaml:"validated"`
}

// EnforcerSpec says at which calls NotifyEnforcer acts.
type EnforcerSpec struct {
	Calls []string `yaml:"calls"`
}

// OptionSpec is one option of a policy.
type OptionSpec struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}
