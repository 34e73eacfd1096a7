package kube

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestObjects checks that every field of every type has the name that the API gives it:
// what is read of these answers is written as the same again.
func TestObjects(t *testing.T) {
	tests := []struct {
		name string
		out  any
		text string
	}{
		{"pod", new(Pod), `{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7","labels":{"l":"1"},"annotations":{"a":"1"},
			"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"q","controller":true,"blockOwnerDeletion":false}],"finalizers":["f"],
			"creationTimestamp":"2024-01-02T03:04:05Z","deletionTimestamp":"2024-01-02T03:04:35Z","deletionGracePeriodSeconds":30},
			"spec":{"nodeName":"n1","initContainers":[{"name":"i"}],"containers":[{"name":"c","image":"x","ports":[{"name":"http","containerPort":80}]}]},
			"status":{"phase":"Failed","reason":"Evicted","message":"m","podIP":"10.0.0.1",
			"conditions":[{"type":"Ready","status":"False","reason":"r","message":"m","lastTransitionTime":"2024-01-02T03:04:05Z"}],
			"initContainerStatuses":[{"name":"i","ready":true,"restartCount":0,"state":{"waiting":{"reason":"ImagePullBackOff","message":"m"}}}],
			"containerStatuses":[{"name":"c","ready":false,"restartCount":2,"state":{"running":{"startedAt":"2024-01-02T03:04:05Z"}},
			"lastState":{"terminated":{"exitCode":137,"signal":9,"reason":"OOMKilled","message":"m"}}}]}}`},
		{"node", new(Node), `{"metadata":{"name":"a"},"spec":{"unschedulable":true,"taints":[{"key":"k","value":"v","effect":"NoExecute"}]},
			"status":{"allocatable":{"nvidia.com/gpu":"8"},"conditions":[{"type":"Ready","status":"True"}]}}`},
		{"service", new(Service), `{"metadata":{"name":"a"},"spec":{"ports":[{"name":"http","port":80}]}}`},
		{"lease", new(Lease), `{"metadata":{"name":"a"},"spec":{"holderIdentity":"me","leaseDurationSeconds":15,"acquireTime":"2024-01-02T03:04:05.000006Z",
			"renewTime":"2024-01-02T03:04:05.600000Z","leaseTransitions":3,"strategy":"OldestEmulationVersion","preferredHolder":"you"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := json.Unmarshal([]byte(tt.text), tt.out); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(tt.out)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if json.Unmarshal(text, &got) != nil || json.Unmarshal([]byte(tt.text), &want) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if meta := reflect.ValueOf(tt.out).Elem().Interface().(Object).Meta(); meta.Name != "a" {
				t.Errorf("Meta is %+v", meta)
			}
		})
	}
}

// TestMicroTime checks the format, and that equal times are equal in whatever zone.
func TestMicroTime(t *testing.T) {
	zone := time.FixedZone("", 3600)
	text, err := json.Marshal(MicroTime{time.Date(2024, 1, 2, 3, 4, 5, 0, zone)})
	if err != nil || string(text) != `"2024-01-02T02:04:05.000000Z"` {
		t.Errorf("%s, error %v", text, err)
	}
	var a, b, none LeaseSpec
	for text, spec := range map[string]*LeaseSpec{
		`{"renewTime":"2024-01-02T02:04:05.000000Z"}`:      &a,
		`{"renewTime":"2024-01-02T03:04:05.000000+01:00"}`: &b,
		`{"renewTime":null}`:                               &none,
	} {
		if err := json.Unmarshal([]byte(text), spec); err != nil {
			t.Error(err)
		}
	}
	if a != b || a == none || none != (LeaseSpec{}) {
		t.Errorf("%v, %v, %v: the first two are the same, the last is none", a, b, none)
	}
	if json.Unmarshal([]byte(`{"renewTime":"yesterday"}`), &a) == nil {
		t.Error("yesterday is not a time")
	}
}
