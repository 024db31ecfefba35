// SPDX-License-Identifier: Apache-2.0

// Package all lists the sensors. In: what the sensors share. Out: every sensor, ready to be started, in the order in
// which they start. A new sensor is one folder and one line here.
package all

import (
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor"
	"github.com/vigie-io/vigie/internal/sensor/dns"
	"github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/sensor/file"
	"github.com/vigie-io/vigie/internal/sensor/l7"
	"github.com/vigie-io/vigie/internal/sensor/privilege"
	"github.com/vigie-io/vigie/internal/sensor/socket"
)

// Options are what the sensors can be told.
type Options struct {
	ArgsLimit uint32 // bytes of argv that are kept
	OnCgroup  func(exec.CgroupChange)
	Requests  *l7.Choice // whose requests are looked at; nobody's when nil
	Losses    *pipeline.Losses
	NoFlows   bool // nothing is counted for flows
}

// Sensors returns every sensor. The process sensor comes first: the others' events name its processes.
func Sensors(o Options) []sensor.Sensor {
	return []sensor.Sensor{
		exec.New(exec.Options{ArgsLimit: o.ArgsLimit, OnCgroup: o.OnCgroup}),
		file.New(file.Options{}),
		socket.New(socket.Options{Losses: o.Losses, NoFlows: o.NoFlows}),
		dns.New(dns.Options{Losses: o.Losses}), // after socket, whose owners it reads
		l7.New(l7.Options{Choice: o.Requests, Losses: o.Losses}),
		privilege.New(privilege.Options{Losses: o.Losses}),
	}
}
