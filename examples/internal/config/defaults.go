package config

import "maps"

// What only a process has, and what only a pod has.
var (
	processFields = []string{"command", "stopCommand", "env", "dir", "url"}
	podFields     = []string{"pod", "port", "service"}
)

// spread gives to each model in the file what it leaves out and the member defaults
// has. What is wrong in there is told at its own place, once.
func (d *document) spread(root *node) {
	members, _ := root.value.(map[string]*node)
	defaults, models := members["defaults"], members["models"]
	if defaults == nil {
		return
	}
	delete(members, "defaults")
	if d.object(defaults) == nil || models == nil {
		return
	}
	all, _ := models.value.(map[string]*node)
	for _, model := range all {
		model.inherit(defaults.fitting(model))
	}
}

// fitting returns n, which is defaults, without what is for another kind of model. What
// says itself that it is a process, elsewhere or a pod gets nothing that is only for
// another of them.
func (n *node) fitting(model *node) *node {
	own, _ := model.value.(map[string]*node)
	var other []string
	switch {
	case own["pod"] != nil:
		other = processFields
	case own["command"] != nil || own["url"] != nil:
		other = podFields
	}
	members, _ := n.value.(map[string]*node)
	members = maps.Clone(members)
	for _, field := range other {
		delete(members, field)
	}
	return &node{value: members}
}

// inherit gives to n the members of from that it has not, and so on in objects that
// both have, such as env. Everything else, lists too, is as n has it.
func (n *node) inherit(from *node) {
	own, _ := n.value.(map[string]*node)
	others, _ := from.value.(map[string]*node)
	for key, other := range others {
		if member := own[key]; member != nil {
			member.inherit(other)
		} else if own != nil {
			own[key] = other
		}
	}
}
