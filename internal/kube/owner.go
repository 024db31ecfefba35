// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/model"
)

// jobName is a Job whose owner is asked for: by its name alone nobody can tell whether a CronJob made it.
type jobName struct{ namespace, name, uid string }

// wantOwner has a Job's owner asked for, unless it is known. When too many wait, the Job stands for its owner; that is counted.
func (c *Client) wantOwner(j jobName) {
	c.view.mu.RLock()
	_, known := c.view.owners[j.uid]
	c.view.mu.RUnlock()
	if known {
		return
	}
	select {
	case c.jobs <- j:
	default:
		c.lostJobs.Add(1)
	}
}

// askOwners asks for what has made Jobs until ctx ends: once for each Job.
func (c *Client) askOwners(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-c.jobs:
			c.view.mu.RLock()
			_, known := c.view.owners[j.uid]
			c.view.mu.RUnlock()
			if known {
				continue
			}
			asking, cancel := context.WithTimeout(ctx, 10*time.Second)
			owner, err := c.ownerOf(asking, j)
			cancel()
			if err != nil {
				c.options.Log.Debug("a Job stands for what made it", "job", j.namespace+"/"+j.name, "error", err)
				continue // it is asked for again when one of its pods changes
			}
			c.view.setOwner(j.uid, owner)
		}
	}
}

// ownerOf asks for a Job's metadata.
func (c *Client) ownerOf(ctx context.Context, j jobName) (model.Controller, error) {
	self := model.Controller{Kind: "Job", Name: j.name}
	answer, err := c.api.batch.Get().Namespace(j.namespace).Resource("jobs").Name(j.name).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return self, nil // gone: nothing better will be known
	}
	if err != nil {
		return self, fmt.Errorf("ask for a Job's metadata: %w", err)
	}
	var job metav1.PartialObjectMetadata
	if err := json.Unmarshal(answer, &job); err != nil {
		return self, fmt.Errorf("read a Job's metadata: %w", err)
	}
	if string(job.UID) != j.uid {
		return self, errors.New("another Job has the name by now")
	}
	if owner := metav1.GetControllerOfNoCopy(&job); owner != nil {
		return model.Controller{Kind: owner.Kind, Name: owner.Name}, nil
	}
	return self, nil
}
