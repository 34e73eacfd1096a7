package kube

import "time"

// Object is anything that the API keeps.
type Object interface{ Meta() ObjectMeta }

// The types below have the fields that somebody here uses, under the API's names. Others
// are dropped, so an Update must not send what was read as one of these, except a [Lease].
var (
	_ Object = Pod{}
	_ Object = Node{}
	_ Object = Service{}
	_ Object = Lease{}
)

// ObjectMeta is what all objects have.
type ObjectMeta struct {
	Name                       string            `json:"name,omitempty"`
	Namespace                  string            `json:"namespace,omitempty"`
	UID                        string            `json:"uid,omitempty"`
	ResourceVersion            string            `json:"resourceVersion,omitempty"`
	Labels                     map[string]string `json:"labels,omitempty"`
	Annotations                map[string]string `json:"annotations,omitempty"`
	OwnerReferences            []OwnerReference  `json:"ownerReferences,omitempty"`
	Finalizers                 []string          `json:"finalizers,omitempty"`
	CreationTimestamp          *time.Time        `json:"creationTimestamp,omitempty"`
	DeletionTimestamp          *time.Time        `json:"deletionTimestamp,omitempty"`
	DeletionGracePeriodSeconds *int64            `json:"deletionGracePeriodSeconds,omitempty"`
}

// OwnerReference names an object with whose deletion this one goes too.
type OwnerReference struct {
	APIVersion         string `json:"apiVersion"`
	Kind               string `json:"kind"`
	Name               string `json:"name"`
	UID                string `json:"uid"`
	Controller         *bool  `json:"controller,omitempty"`
	BlockOwnerDeletion *bool  `json:"blockOwnerDeletion,omitempty"`
}

// Condition is one thing that is known of a pod or a node.
type Condition struct {
	Type               string     `json:"type"`
	Status             string     `json:"status"` // True, False or Unknown
	Reason             string     `json:"reason,omitempty"`
	Message            string     `json:"message,omitempty"`
	LastTransitionTime *time.Time `json:"lastTransitionTime,omitempty"`
}

// Pod is a group of containers on one node.
type Pod struct {
	Metadata ObjectMeta `json:"metadata"`
	Spec     PodSpec    `json:"spec"`
	Status   PodStatus  `json:"status,omitzero"`
}

// Meta implements [Object].
func (p Pod) Meta() ObjectMeta { return p.Metadata }

// PodSpec says what a pod is to be.
type PodSpec struct {
	NodeName       string      `json:"nodeName,omitempty"`
	InitContainers []Container `json:"initContainers,omitempty"`
	Containers     []Container `json:"containers"`
}

// Container is a container of a pod.
type Container struct {
	Name  string          `json:"name"`
	Image string          `json:"image,omitempty"`
	Ports []ContainerPort `json:"ports,omitempty"`
}

// ContainerPort is a port at which a container answers.
type ContainerPort struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int    `json:"containerPort"`
}

// PodStatus is what has become of a pod.
type PodStatus struct {
	Phase                 string            `json:"phase,omitempty"` // Pending, Running, Succeeded, Failed or Unknown
	Reason                string            `json:"reason,omitempty"`
	Message               string            `json:"message,omitempty"`
	PodIP                 string            `json:"podIP,omitempty"`
	Conditions            []Condition       `json:"conditions,omitempty"`
	InitContainerStatuses []ContainerStatus `json:"initContainerStatuses,omitempty"`
	ContainerStatuses     []ContainerStatus `json:"containerStatuses,omitempty"`
}

// ContainerStatus is what has become of a container.
type ContainerStatus struct {
	Name         string         `json:"name"`
	Ready        bool           `json:"ready"`
	RestartCount int            `json:"restartCount"`
	State        ContainerState `json:"state,omitzero"`
	LastState    ContainerState `json:"lastState,omitzero"`
}

// ContainerState has at most one member that is not nil.
type ContainerState struct {
	Waiting    *ContainerWaiting    `json:"waiting,omitempty"`
	Running    *ContainerRunning    `json:"running,omitempty"`
	Terminated *ContainerTerminated `json:"terminated,omitempty"`
}

// ContainerWaiting says why a container does not run yet.
type ContainerWaiting struct {
	Reason  string `json:"reason,omitempty"` // such as ImagePullBackOff
	Message string `json:"message,omitempty"`
}

// ContainerRunning says since when a container runs.
type ContainerRunning struct {
	StartedAt *time.Time `json:"startedAt,omitempty"`
}

// ContainerTerminated says how a container ended.
type ContainerTerminated struct {
	ExitCode int    `json:"exitCode"`
	Signal   int    `json:"signal,omitempty"`
	Reason   string `json:"reason,omitempty"` // such as OOMKilled
	Message  string `json:"message,omitempty"`
}

// Node is a machine of the cluster.
type Node struct {
	Metadata ObjectMeta `json:"metadata"`
	Spec     NodeSpec   `json:"spec,omitzero"`
	Status   NodeStatus `json:"status,omitzero"`
}

// Meta implements [Object].
func (n Node) Meta() ObjectMeta { return n.Metadata }

// NodeSpec says what a node is to be used for.
type NodeSpec struct {
	Unschedulable bool    `json:"unschedulable,omitempty"`
	Taints        []Taint `json:"taints,omitempty"`
}

// Taint keeps pods away that do not tolerate it.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// NodeStatus is what a node has to offer.
type NodeStatus struct {
	Allocatable map[string]string `json:"allocatable,omitempty"` // resource → quantity
	Conditions  []Condition       `json:"conditions,omitempty"`
}

// Service is an address in front of pods.
type Service struct {
	Metadata ObjectMeta  `json:"metadata"`
	Spec     ServiceSpec `json:"spec,omitzero"`
}

// Meta implements [Object].
func (s Service) Meta() ObjectMeta { return s.Metadata }

// ServiceSpec says at which ports a service answers.
type ServiceSpec struct {
	Ports []ServicePort `json:"ports,omitempty"`
}

// ServicePort is a port at which a service answers.
type ServicePort struct {
	Name string `json:"name,omitempty"`
	Port int    `json:"port"`
}

// Lease is a record of who does something (coordination.k8s.io/v1). It has all fields, so
// that an update loses none.
type Lease struct {
	Metadata ObjectMeta `json:"metadata"`
	Spec     LeaseSpec  `json:"spec,omitzero"`
}

// Meta implements [Object].
func (l Lease) Meta() ObjectMeta { return l.Metadata }

// LeaseSpec is what a Lease says. Two are equal (==) if they say the same.
type LeaseSpec struct {
	HolderIdentity       string    `json:"holderIdentity,omitempty"` // "": nobody
	LeaseDurationSeconds int32     `json:"leaseDurationSeconds,omitempty"`
	AcquireTime          MicroTime `json:"acquireTime,omitzero"`
	RenewTime            MicroTime `json:"renewTime,omitzero"`
	LeaseTransitions     int32     `json:"leaseTransitions,omitempty"`
	Strategy             string    `json:"strategy,omitempty"`
	PreferredHolder      string    `json:"preferredHolder,omitempty"`
}

// MicroTime is a time with the six digits after the second that the API insists on.
type MicroTime struct{ time.Time }

// MarshalJSON implements [encoding/json.Marshaler].
func (t MicroTime) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000000Z07:00"`)), nil
}

// UnmarshalJSON implements [encoding/json.Unmarshaler]. The time is in UTC.
func (t *MicroTime) UnmarshalJSON(text []byte) error {
	err := t.Time.UnmarshalJSON(text)
	t.Time = t.UTC()
	return err
}
