package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxIncluded bounds what all files of pods have together, each as often as it is named.
const maxIncluded = 16 << 20 // bytes

// include puts in the place of each podFile the pod that this file has.
func (d *document) include(root *node) {
	members, _ := root.value.(map[string]*node)
	objects := []*node{members["defaults"]}
	if models := members["models"]; models != nil {
		all, _ := models.value.(map[string]*node)
		for _, name := range sortedKeys(all) {
			objects = append(objects, all[name])
		}
	}
	files := make(map[string]*document)
	for _, n := range objects {
		if n != nil {
			d.includeInto(n, files)
		}
	}
}

// includeInto does that for one model, or for defaults.
func (d *document) includeInto(model *node, files map[string]*document) {
	members, _ := model.value.(map[string]*node)
	file := members["podFile"]
	if file == nil {
		return
	}
	delete(members, "podFile")
	name, ok := file.value.(string)
	switch {
	case !ok:
		d.wrong(file, "must be the path of a file", file.kind())
	case name == "":
		d.wrong(file, "must be the path of a file", "empty")
	case members["pod"] != nil:
		d.fault(file.place(), file.start, "cannot be there beside pod")
		return
	default:
		if pod, err := d.pod(anchored(filepath.Dir(d.name), name), files); err != nil {
			d.fault(file.place(), file.start, "%v", err)
		} else if pod != nil {
			members["pod"] = pod
			return
		}
	}
	// There is a pod, of which nothing is known.
	members["pod"] = &node{parent: model, key: "pod", start: file.start, value: make(map[string]*node), broken: true}
}

// pod returns the tree of a file, nil if it is not JSON.
func (d *document) pod(path string, files map[string]*document) (*node, error) {
	file := files[path]
	if file == nil {
		data, err := readPod(path)
		if err != nil {
			return nil, err
		}
		file = &document{name: path, data: data}
		files[path] = file
		d.included = append(d.included, file)
	}
	if d.includedBytes += len(file.data); d.includedBytes > maxIncluded {
		return nil, fmt.Errorf("all files of pods have more than %v together", Size(maxIncluded))
	}
	return file.read(), nil
}

// readPod reads a file that has a pod.
func readPod(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // It may never end.
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPod+1))
	if err == nil && len(data) > maxPod {
		err = fmt.Errorf("%s has more than %v", path, Size(maxPod))
	}
	return data, err
}
