// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"errors"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

func kafkaBroker(args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	c, err := kfake.NewCluster(kfake.Ports(port), kfake.SeedTopics(1, "orders"))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// kafkaClient writes and reads one record, by versions at which topics still have names.
func kafkaClient(args []string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(args[0]), kgo.ConsumeTopics("orders"), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := context.Background()
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("secret-of-kafka")}).FirstErr(); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return err
	}
	return c.PollFetches(ctx).Err()
}
