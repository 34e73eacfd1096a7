package kubetest

import "time"

// busy returns how many requests the container is serving.
func (r *run) busy() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.model == nil {
		return 0
	}
	return int(r.model.inFlight.Load())
}

// outputOf returns what the container has printed, or the one before it; nil: there was
// none. Waiting says why it has not been started.
func (r *run) outputOf(previous bool) (out *output, waiting string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if previous {
		return r.previous, ""
	}
	return r.out, r.waiting
}

// stop ends the pod within grace, or earlier if somebody has said so before.
func (r *run) stop(grace time.Duration) {
	r.change(func() {
		if end := time.Now().Add(grace); r.graceEnd.IsZero() || end.Before(r.graceEnd) {
			r.graceEnd = end
		}
	})
}

// lose takes the machine from the pod.
func (r *run) lose() {
	r.change(func() {
		r.lost = true
		if r.model != nil {
			r.model.freeze()
		}
	})
	r.cutOff()
}

// kill ends everything at once.
func (r *run) kill() { r.cancel() }

// end makes the container end, and waits until that is reported. It returns false if
// it does not run or is stopping.
func (r *run) end(e ending) bool {
	e.done = make(chan struct{})
	accepted := false
	r.change(func() {
		if accepted = r.order == nil && r.model != nil && !r.lost && r.graceEnd.IsZero(); accepted {
			r.order = &e
		}
	})
	if !accepted {
		return false
	}
	select {
	case <-e.done:
		return true
	case <-r.over:
		return false
	case <-r.ctx.Done():
		return false
	}
}

// fail makes the container end, unless it is to end already.
func (r *run) fail(e ending) {
	e.done = make(chan struct{})
	r.change(func() {
		if r.order == nil {
			r.order = &e
		}
	})
}

// change changes what r is to do.
func (r *run) change(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// why returns why the container is to stop; nil: it is not.
func (r *run) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ctx.Err() != nil:
		return errKilled
	case r.lost:
		return errLost
	case r.order != nil:
		return errOrdered
	case !r.graceEnd.IsZero():
		return errDeleted
	}
	return nil
}

// sleep waits for d, for ever if that is negative, or until the container is to stop.
func (r *run) sleep(d time.Duration) error {
	var expired <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	for {
		if err := r.why(); err != nil {
			return err
		}
		select {
		case <-expired:
			return nil
		case <-r.wake:
		case <-r.ctx.Done():
		}
	}
}
