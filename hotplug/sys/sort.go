package sys

// Sort sorts names as slices.Sort does. It takes about twice the time, never more than n log n
// steps for any names, and saves the program the code of a faster way.
func Sort(names []string) {
	// A heap: what is greatest comes to its root, and goes behind it.
	for end, root := len(names), len(names)/2; end > 1; {
		if root > 0 {
			root--
		} else {
			end--
			names[0], names[end] = names[end], names[0]
		}
		for at := root; ; {
			child := 2*at + 1
			if child+1 < end && names[child] < names[child+1] {
				child++
			}
			if child >= end || names[child] <= names[at] {
				break
			}
			names[at], names[child] = names[child], names[at]
			at = child
		}
	}
}
