package pods

import (
	"context"
	"errors"
	"net/http"
	"time"

	"example.com/scheduler/examples/internal/kube"
)

const (
	conflictPause  = 100 * time.Millisecond // after a conflict that may be over soon
	forbiddenPause = time.Second            // before what is forbidden is tried again
	confirmPause   = 5 * time.Second        // from one look at a pod that cannot be watched to the next
)

// errGone says that a pod is not there.
var errGone = errors.New("it is gone")

// isAbsent reports whether err is the API's word that there is no such object. A 404 that
// something on the way to the API has made up is not.
func isAbsent(err error) bool {
	var e *kube.Error
	return errors.As(err, &e) && e.Code == http.StatusNotFound && e.Reason == "NotFound"
}

// find returns nil if there is a pod of that name with that UID, and errGone if there is
// none.
func (c *Cluster) find(ctx context.Context, name, uid string) error {
	var pod kube.Pod
	err := c.client.Get(ctx, c.path(name), &pod)
	if isAbsent(err) || err == nil && pod.Metadata.UID != uid {
		return errGone
	}
	return err
}

// confirm makes sure that the pod of p, which is watched no longer, is gone. It may be
// there and only have lost the label by which it is watched, as people do who want to look
// at a pod in peace. It is given the label again.
func (c *Cluster) confirm(p *Pod, uid string) {
	for c.ctx.Err() == nil {
		err := c.find(c.ctx, p.name, uid)
		if err == errGone {
			p.see(nil, true)
			return
		} else if err == nil {
			c.log.Warn("a pod has lost its label, and is given it again", "pod", p.name, "label", labelProxy)
			patch := map[string]any{"metadata": map[string]any{"uid": uid, "labels": map[string]any{labelProxy: c.name}}}
			err = c.permit.do(c.ctx, func(ctx context.Context) error {
				return c.client.Patch(ctx, c.path(p.name), patch, nil)
			})
			if err == nil {
				return
			}
		}
		if c.ctx.Err() == nil {
			c.log.Warn("it is not known whether a pod is gone", "pod", p.name, "err", err)
		}
		select {
		case <-time.After(confirmPause):
		case <-c.ctx.Done():
		}
	}
}
