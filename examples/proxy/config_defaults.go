package main

// spread gives to each model in the file what it leaves out and the member defaults
// has. What is wrong in there is told at its own place, once.
func (d *document) spread(root *node) {
	members, _ := root.value.(map[string]*node)
	defaults := members["defaults"]
	if defaults == nil {
		return
	}
	delete(members, "defaults")
	if _, ok := defaults.value.(map[string]*node); !ok {
		d.wrong(defaults, "must be an object", defaults.kind())
		return
	}
	if models := members["models"]; models != nil {
		all, _ := models.value.(map[string]*node)
		for _, model := range all {
			model.inherit(defaults)
		}
	}
}

// inherit gives to n the members of from that it has not, and so on in objects that
// both have, such as env. Everything else, lists too, is as n has it.
func (n *node) inherit(from *node) {
	own, isObject := n.value.(map[string]*node)
	others, alike := from.value.(map[string]*node)
	if !isObject || !alike {
		return
	}
	for key, other := range others {
		if own[key] == nil {
			own[key] = other
		} else {
			own[key].inherit(other)
		}
	}
}
