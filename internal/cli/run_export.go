// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/agent"
)

// exportFlags are the flags of what takes events to places outside.
func exportFlags(cmd *cobra.Command, c *agent.Config) {
	fs := cmd.Flags()
	fs.StringSliceVar(&c.ExportTypes, "export-types", c.ExportTypes, "types of events to export, by all of the below; all by default")
	fs.StringVar(&c.ExportJSON, "export-json", c.ExportJSON, "write every event as a line of JSON to this file; -: standard output")
	fs.StringVar(&c.ExportJSONEncoding, "export-json-encoding", c.ExportJSONEncoding, "vigie, ocsf or ecs")
	fs.IntVar(&c.ExportJSONMaxMB, "export-json-max-mb", c.ExportJSONMaxMB, "put the file aside before it is larger, in MiB; 0: never")
	fs.DurationVar(&c.ExportJSONMaxAge, "export-json-max-age", c.ExportJSONMaxAge, "put the file aside when it is older, such as 24h; 0: never")
	fs.IntVar(&c.ExportJSONMaxFiles, "export-json-max-files", c.ExportJSONMaxFiles, "files that were put aside to keep")
	fs.StringVar(&c.ExportSyslog, "export-syslog", c.ExportSyslog, "send every event as a syslog message: unix:///dev/log, udp://HOST, tcp://HOST or tls://HOST")
	fs.StringVar(&c.ExportSyslogEncoding, "export-syslog-encoding", c.ExportSyslogEncoding, "vigie, ocsf or ecs")
	fs.StringSliceVar(&c.ExportKafka, "export-kafka", c.ExportKafka, "send every event to Kafka: HOST:PORT of some brokers")
	fs.StringVar(&c.ExportKafkaTopic, "export-kafka-topic", c.ExportKafkaTopic, "topic of --export-kafka")
	fs.StringVar(&c.ExportKafkaEncoding, "export-kafka-encoding", c.ExportKafkaEncoding, "vigie, ocsf or ecs")
	fs.BoolVar(&c.ExportKafkaTLS, "export-kafka-tls", c.ExportKafkaTLS, "speak TLS to Kafka")
	fs.StringVar(&c.ExportKafkaSASLFile, "export-kafka-sasl-file", c.ExportKafkaSASLFile, "file with the lines mechanism: (such as SCRAM-SHA-512), user: and password: for Kafka")
	fs.StringVar(&c.ExportOTLP, "export-otlp", c.ExportOTLP, "send logs, traces and metrics to an OpenTelemetry receiver: http://HOST, https://HOST, grpc://HOST or grpcs://HOST")
	fs.StringSliceVar(&c.ExportOTLPSignals, "export-otlp-signals", c.ExportOTLPSignals, "only these: logs, traces, metrics (default all)")
	fs.DurationVar(&c.ExportOTLPInterval, "export-otlp-interval", c.ExportOTLPInterval, "how often metrics are sent")
	fs.StringVar(&c.ExportOTLPHeadersFile, "export-otlp-headers-file", c.ExportOTLPHeadersFile, "file with lines of NAME: VALUE, sent with each request")
	fs.StringVar(&c.ExportTLSCA, "export-tls-ca", c.ExportTLSCA, "PEM file of who may sign receivers' certificates, instead of whom the system trusts")
	fs.StringVar(&c.ExportTLSCert, "export-tls-cert", c.ExportTLSCert, "PEM certificate for receivers that ask for one")
	fs.StringVar(&c.ExportTLSKey, "export-tls-key", c.ExportTLSKey, "PEM key of --export-tls-cert")
	fs.StringSliceVar(&c.Metrics, "metrics", c.Metrics, "groups of metrics to count from events, for /metrics and --export-otlp; off: none")
	for _, flag := range []string{"export-json-encoding", "export-syslog-encoding", "export-kafka-encoding"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions([]string{"vigie", "ocsf", "ecs"}, cobra.ShellCompDirectiveNoFileComp))
	}
}
