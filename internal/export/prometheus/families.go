// SPDX-License-Identifier: Apache-2.0

package prometheus

// The groups of metrics, each of which can be turned on.
const (
	GroupFlow     = "flow"
	GroupDNS      = "dns"
	GroupRequest  = "request"
	GroupPolicy   = "policy"
	GroupAlert    = "alert"
	GroupWorkload = "workload"
)

// Groups lists every group.
func Groups() []string {
	return []string{GroupFlow, GroupDNS, GroupRequest, GroupPolicy, GroupAlert, GroupWorkload}
}

// The families, by their names. Those that begin with hubble_ mean what Hubble's metrics of that name mean, with its labels
// and values (Cilium's documentation, "Monitoring & Metrics", "Hubble Exported Metrics"); docs/metrics.md says where they count otherwise.
const (
	flowsProcessed   = "hubble_flows_processed_total"
	drops            = "hubble_drop_total"
	tcpFlags         = "hubble_tcp_flags_total"
	portDistribution = "hubble_port_distribution_total"
	dnsQueries       = "hubble_dns_queries_total"
	dnsResponses     = "hubble_dns_responses_total"
	dnsResponseTypes = "hubble_dns_response_types_total"
	httpRequests     = "hubble_http_requests_total"
	httpDuration     = "hubble_http_request_duration_seconds"
	kafkaRequests    = "hubble_kafka_requests_total"
	kafkaDuration    = "hubble_kafka_request_duration_seconds"

	flows           = "vigie_flows_total"
	flowBytes       = "vigie_flow_bytes_total"
	flowRetransmits = "vigie_flow_retransmits_total"
	flowFailures    = "vigie_flow_failures_total"
	connectLatency  = "vigie_tcp_connect_seconds"
	roundTrip       = "vigie_tcp_round_trip_seconds"
	dnsDuration     = "vigie_dns_query_duration_seconds"
	dnsTimeouts     = "vigie_dns_timeouts_total"
	requests        = "vigie_requests_total"
	requestDuration = "vigie_request_duration_seconds"
	policyVerdicts  = "vigie_policy_verdicts_total"
	alerts          = "vigie_alerts_total"
	workloadEvents  = "vigie_workload_events_total"
)

// Families lists every family.
func Families() []Family {
	return []Family{
		{Group: GroupFlow, Name: flowsProcessed, Max: 200, Labels: []string{"protocol", "type", "subtype", "verdict"},
			Help: "Conversations, and questions and answers in them."},
		{Group: GroupFlow, Name: drops, Max: 100, Labels: []string{"reason", "protocol"}, Help: "Conversations that a policy denied."},
		{Group: GroupFlow, Name: tcpFlags, Max: 20, Labels: []string{"flag", "family"}, Help: "TCP flags, each once in a conversation."},
		{Group: GroupFlow, Name: portDistribution, Max: 500, Labels: []string{"protocol", "port"}, Help: "Conversations by destination port."},
		{Group: GroupFlow, Name: flows, Max: 2000, Labels: []string{"source", "destination", "protocol", "verdict"},
			Help: "Conversations by the workloads at their ends."},
		{Group: GroupFlow, Name: flowBytes, Max: 2000, Labels: []string{"source", "destination", "direction"},
			Help: "Bytes of payload by the workloads at the ends; sent is from source to destination."},
		{Group: GroupFlow, Name: flowRetransmits, Max: 1000, Labels: []string{"source", "destination"}, Help: "TCP segments sent again."},
		{Group: GroupFlow, Name: flowFailures, Max: 1000, Labels: []string{"source", "destination", "reason"},
			Help: "Conversations that did not come about, other than by a policy."},
		{Group: GroupFlow, Name: connectLatency, Max: 100, Labels: []string{"source", "destination"}, Histogram: true,
			Help: "Time until a TCP connection was established."},
		{Group: GroupFlow, Name: roundTrip, Max: 100, Labels: []string{"source", "destination"}, Histogram: true,
			Help: "Smoothed round-trip time of a TCP connection, at each of its reports."},
		{Group: GroupDNS, Name: dnsQueries, Max: 100, Labels: []string{"rcode", "qtypes", "ips_returned"}, Help: "DNS questions."},
		{Group: GroupDNS, Name: dnsResponses, Max: 500, Labels: []string{"rcode", "qtypes", "ips_returned"}, Help: "DNS answers."},
		{Group: GroupDNS, Name: dnsResponseTypes, Max: 200, Labels: []string{"type", "qtypes"}, Help: "Records in DNS answers."},
		{Group: GroupDNS, Name: dnsDuration, Max: 50, Labels: []string{"rcode"}, Histogram: true, Help: "Time from a DNS question to its answer."},
		{Group: GroupDNS, Name: dnsTimeouts, Max: 500, Labels: []string{"workload"}, Help: "DNS questions without an answer."},
		{Group: GroupRequest, Name: httpRequests, Max: 1000, Labels: []string{"method", "protocol", "status", "reporter"}, Help: "HTTP requests with an answer."},
		{Group: GroupRequest, Name: httpDuration, Max: 50, Labels: []string{"method", "reporter"}, Histogram: true,
			Help: "Time from an HTTP request to its answer."},
		{Group: GroupRequest, Name: kafkaRequests, Max: 1000, Labels: []string{"topic", "api_key", "error_code", "reporter"}, Help: "Kafka requests with an answer."},
		{Group: GroupRequest, Name: kafkaDuration, Max: 100, Labels: []string{"topic", "api_key", "reporter"}, Histogram: true,
			Help: "Time from a Kafka request to its answer."},
		{Group: GroupRequest, Name: requests, Max: 2000, Labels: []string{"workload", "protocol", "reporter", "result"},
			Help: "Requests on application protocols; the workload is the reporter's."},
		{Group: GroupRequest, Name: requestDuration, Max: 100, Labels: []string{"workload", "protocol", "reporter"}, Histogram: true,
			Help: "Time from a request to its answer; the workload is the reporter's."},
		{Group: GroupPolicy, Name: policyVerdicts, Max: 500, Labels: []string{"policy", "operation", "action"},
			Help: "What policies denied, killed or would have."},
		{Group: GroupAlert, Name: alerts, Max: 500, Labels: []string{"rule", "severity"}, Help: "Alerts of detections."},
		{Group: GroupWorkload, Name: workloadEvents, Max: 2000, Labels: []string{"workload", "type"}, Help: "Events by the workload they are of."},
	}
}

// buckets are the upper bounds of histograms in seconds: those that Hubble's have, and finer ones below.
func buckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}
