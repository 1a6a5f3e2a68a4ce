package handoff

func init() { anyParent = "a test" }
