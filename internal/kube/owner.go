// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/model"
)

// jobName is a Job whose owner is asked for: by its name alone nobody can tell whether a CronJob made it.
type jobName struct{ namespace, name, uid string }

// ownersAtOnce is how many Jobs are looked for at a time, ownerRetry how long until one that could not be asked for is asked for again.
const (
	ownersAtOnce = 256
	ownerRetry   = 30 * time.Second
)

// wantOwner has the owners of Jobs asked for that are not known.
func (c *Client) wantOwner() {
	select {
	case c.jobs <- struct{}{}:
	default:
	}
}

// askOwners asks for what has made Jobs until ctx ends: once for each Job.
func (c *Client) askOwners(ctx context.Context) {
	again := time.NewTimer(ownerRetry)
	again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.jobs:
		case <-again.C:
		}
		for jobs := c.view.jobsWithoutOwner(ownersAtOnce); len(jobs) > 0; jobs = c.view.jobsWithoutOwner(ownersAtOnce) {
			if err := c.askFor(ctx, jobs); err != nil {
				c.options.Log.Debug("a Job stands for what made it", "error", err)
				again.Reset(ownerRetry)
				break
			}
		}
	}
}

// askFor asks for the owners of jobs, and stops at the first of which nobody knows.
func (c *Client) askFor(ctx context.Context, jobs []jobName) error {
	for _, j := range jobs {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		owner, err := c.ownerOf(asking, j)
		cancel()
		if err != nil {
			return err
		}
		c.view.setOwner(j.uid, owner)
	}
	return nil
}

// jobsWithoutOwner are Jobs of pods whose owners have not been asked for, at most so many.
func (v *View) jobsWithoutOwner(most int) []jobName {
	v.mu.RLock()
	defer v.mu.RUnlock()
	found := make(map[string]bool)
	var out []jobName
	for _, e := range v.pods {
		if e.ownerUID == "" || found[e.ownerUID] {
			continue
		}
		if _, known := v.owners[e.ownerUID]; known {
			continue
		}
		found[e.ownerUID] = true
		if out = append(out, jobName{e.pod.Namespace, e.pod.Controller.Name, e.ownerUID}); len(out) == most {
			break
		}
	}
	return out
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
		return self, nil // another has the name by now
	}
	if owner := metav1.GetControllerOfNoCopy(&job); owner != nil {
		return model.Controller{Kind: owner.Kind, Name: owner.Name}, nil
	}
	return self, nil
}
