package scheduler

import (
	"time"
)

// step handles the events one at a time (R17). An event that comes from within a call
// waits until the present one is done. A panic is fail-stop: it passes through to the run
// loop, and before the next event is handled every request without an answer gets an
// error.
type step struct {
	handle func(*event) // carries out an event
	fail   func(error)  // carries out the fail-stop
	clock  func() time.Time

	event   event       // present, or the next one if it is pending
	pending bool        // event is yet to be handled
	inbox   []event     // the events after it, in order
	active  bool        // the present event is being handled
	failed  error       // if not nil, the next event begins with a fail-stop
	orphan  *HandlerReq // a request without an answer, whose step a panic has cut short

	// What has happened in the present step.
	unsettled bool // its request has neither an answer nor a place in the queue
	unblocked bool // something no longer keeps requests waiting: the queue has to move
	timed     bool // now is known
	now       time.Time
}

// kind says which method brought an event.
type kind int

const (
	requested kind = iota
	cancelled
	swapDone
	serveDone
	unloaded
	shutDown
)

// event is what one of the On… methods was told.
type event struct {
	kind    kind
	req     HandlerReq // requested, cancelled
	model   string     // of a report
	lease   uint64
	err     error
	targets []string
	timeout time.Duration
}

// receive returns the place to put an event. That is the present event, or the end of the
// inbox if the call comes from within a step.
func (s *step) receive(k kind) *event {
	ev := &s.event
	if s.active || s.pending {
		s.inbox = append(s.inbox, event{})
		ev = &s.inbox[len(s.inbox)-1]
	} else {
		s.pending = true
	}
	ev.kind = k
	return ev
}

// run handles the events that have been received, unless a step is under way: then that
// step does.
func (s *step) run() {
	if s.active {
		return
	}
	s.active = true
	defer s.unwind()
	for s.pending {
		if s.failed != nil {
			s.failStop()
		}
		s.begin()
		s.handle(&s.event)
		s.next()
	}
	s.active = false
}

// begin begins the step of the pending event.
func (s *step) begin() {
	s.pending, s.timed, s.unblocked = false, false, false
	s.unsettled = s.event.kind == requested
}

// next makes the next event of the inbox the pending one.
func (s *step) next() {
	if len(s.inbox) == 0 {
		return
	}
	s.event, s.pending = s.inbox[0], true
	s.inbox[0] = event{}
	if s.inbox = s.inbox[1:]; len(s.inbox) == 0 {
		s.inbox = nil
	}
}

// unwind ends a step that did not return: because of a panic, which goes on, or
// because the goroutine ends (runtime.Goexit).
func (s *step) unwind() {
	if !s.active {
		return
	}
	value := recover()
	s.active = false
	s.failed = panicError(ErrShutdown, value)
	if s.unsettled {
		s.unsettled = false
		req := s.event.req
		s.orphan = &req
	}
	if !s.pending {
		s.next()
	}
	if value != nil {
		panic(value)
	}
}

// failStop shuts the scheduler down after a panic. If it panics too, it goes on at the
// next event.
func (s *step) failStop() {
	s.timed = false
	err := s.failed
	s.failed = nil
	s.fail(err)
}

// popOrphan removes and returns the request whose step a panic has cut short, or nil if
// there is none.
func (s *step) popOrphan() *HandlerReq {
	orphan := s.orphan
	s.orphan = nil
	return orphan
}

// settled notes that the request of this step has an answer, or a place in the
// queue. It is called before the answer is given: an effect that panics counts as
// carried out.
func (s *step) settled() { s.unsettled = false }

// arriving reports whether the request of this step names the model and is not settled
// yet.
func (s *step) arriving(model string) bool { return s.unsettled && s.event.req.Model == model }

// unblock notes that something no longer keeps requests waiting, so that the queue moves
// before the step ends.
func (s *step) unblock() { s.unblocked = true }

// moves reports whether the queue has to move, and resets that.
func (s *step) moves() bool {
	moves := s.unblocked
	s.unblocked = false
	return moves
}

// time reads the clock, once per step.
func (s *step) time() time.Time {
	if !s.timed {
		s.now, s.timed = s.clock(), true
	}
	return s.now
}

// passTime makes the next call of time read the clock again, because time may have
// passed.
func (s *step) passTime() { s.timed = false }
