// SPDX-License-Identifier: Apache-2.0

package house

// Exceptions to the rules. Each says why.

// arrow is an import from one room to another; a room is named by the first two parts of its path.
type arrow struct {
	from, to string
	tests    bool // only from _test.go files
	why      string
}

// arrows are the permitted imports beside the general ones (see imports.go).
func arrows() []arrow {
	return []arrow{
		{from: "internal/relay", to: "api", why: "a relay is client and server of the API: what it passes on is protobuf"},
		{from: "internal/wire", to: "api", why: "wire converts between protobuf and model"},
		{from: "internal/server", to: "api", why: "the server implements the API"},
		{from: "internal/server", to: "internal/wire", why: "the server speaks protobuf, the rooms speak model"},
		{from: "internal/filter", to: "api", why: "a filter arrives as protobuf"},
		{from: "internal/filter", to: "internal/expression", why: "filters and detections share one language"},
		{from: "internal/expression", to: "api", why: "the names of the language are the protobuf's"},
		{from: "internal/expression", to: "internal/wire", tests: true, why: "what it reads is compared with what the API shows"},
		{from: "internal/server", to: "internal/filter", why: "a client's filter is evaluated where the events are"},
		{from: "internal/cli", to: "api", why: "the commands are clients of the API"},
		{from: "internal/cli", to: "internal/capture", why: "record writes what a replay reads"},
		{from: "internal/detect", to: "internal/expression", why: "filters and detections share one language"},
		{from: "internal/detect", to: "api", why: "the examples of rules are events as the API shows them"},
		{from: "internal/detect", to: "internal/wire", why: "the examples of rules are events as the API shows them"},
		{from: "internal/cli", to: "internal/detect", why: "rules are checked and tried without an agent"},
		{from: "internal/cli", to: "internal/posture", why: "manifests are scanned without an agent"},
		{from: "internal/posture", to: "api", why: "PolicyException is a kind of Kubernetes, and its type stands with the others"},
		{from: "internal/cli", to: "internal/policy", why: "policies are tested, and recordings judged, where there is no agent"},
		{from: "internal/cli", to: "internal/wire", why: "the commands print model types"},
		{from: "internal/cli", to: "internal/kube", why: "install and uninstall speak to a cluster's API server, without an agent"},
		{from: "internal/kube", to: "deploy", why: "what is installed is the Helm chart"},
		{from: "internal/cli", to: "internal/lifecycle", why: "timelines are made of the events that a client reads"},
		{from: "internal/kube", to: "api", why: "the status of vigie's own kinds is what their API says"},
		{from: "internal/store", to: "api", why: "history keeps what is nested as JSON in the API's names"},
		{from: "internal/store", to: "internal/wire", why: "history keeps what is nested as JSON in the API's names"},
		{from: "internal/capture", to: "api", why: "a capture holds events as protobuf"},
		{from: "internal/capture", to: "internal/wire", why: "a capture holds events as protobuf"},
		{from: "internal/enforce", to: "internal/policy", why: "enforce carries out the tables that policy compiles: their types stand with the compiler"},
		{from: "internal/enforce", to: "internal/sensor", tests: true, why: "back-ends are proved beside the sensor whose socket owners they read"},
		{from: "internal/kernel", to: "internal/sensor", tests: true, why: "that an upgrade leaves no gap is proved with a real sensor"},
		{from: "internal/sensor", to: "internal/l7", why: "what is said on connections is understood and redacted where it is decoded, and goes no further"},
		{from: "internal/cli", to: "internal/store", tests: true, why: "the names that the command offers are compared with the store's"},
		{from: "internal/server", to: "internal/store", tests: true, why: "queries are proved on the real history"},
		{from: "internal/model", to: "internal/wire", tests: true, why: "names are compared with the protobuf's"},
		{from: "internal/model", to: "api", tests: true, why: "names are compared with the protobuf's"},
	}
}

// clientGoRooms are the only rooms that may reach Kubernetes' client libraries.
func clientGoRooms() []string {
	return []string{"internal/kube", "internal/posture", "internal/fleet"}
}

// maxLines is the length of a source file that people wrote. Longer ones are listed with their own limit.
const maxLines = 500

func longFiles() map[string]int {
	return map[string]int{}
}

// mutable are package-level variables that may change: "folder.name" and why.
func mutable() map[string]string {
	return map[string]string{}
}

// listedRooms have a folder a member, and one file that lists the members.
func listedRooms() []string {
	return []string{"internal/sensor", "internal/export", "internal/enforce"}
}

// notMembers are folders of listed rooms that are not members: "folder" and why.
func notMembers() map[string]string {
	return map[string]string{"internal/enforce/subject": "no back-end: it says which process is under which policies, and all of them ask it",
		"internal/enforce/pods": "no back-end of policies about processes: it judges whole pods"}
}
