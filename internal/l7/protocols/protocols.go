// SPDX-License-Identifier: Apache-2.0

// Package protocols lists the protocols that are understood. In: nothing. Out: the list, in the order in which they are tried.
package protocols

import (
	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/http1"
	"github.com/vigie-io/vigie/internal/l7/http2"
	"github.com/vigie-io/vigie/internal/l7/kafka"
	"github.com/vigie-io/vigie/internal/l7/mysql"
	"github.com/vigie-io/vigie/internal/l7/postgres"
	"github.com/vigie-io/vigie/internal/l7/redis"
)

// All returns every protocol. A new one is one folder and one line here.
func All() []l7.Protocol {
	return []l7.Protocol{
		http1.Protocol(),
		http2.Protocol(),
		postgres.Protocol(),
		mysql.Protocol(),
		redis.Protocol(),
		kafka.Protocol(),
	}
}
