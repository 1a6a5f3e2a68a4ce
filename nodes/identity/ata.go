package identity

import "strings"

// IDENTIFY DEVICE and IDENTIFY PACKET DEVICE answer with 256 little-endian words (ACS-3,
// 7.12); these are the words that names are made of.
const (
	identifySize      = 512
	wordConfiguration = 0
	wordSerial        = 10
	wordSerialEnd     = 20
	wordRevision      = 23
	wordRevisionEnd   = 27
	wordModel         = 27
	wordModelEnd      = 47
	wordSATA          = 76
	wordCommands1     = 82
	wordCommands2     = 83
	wordEnabled1      = 85
	wordEnabled2      = 86
	wordEraseTime     = 89
	wordEnhancedErase = 90
	wordPowerLevel    = 91
	wordAcoustic      = 94
	wordWWN           = 108
	wordSecurity      = 128
	wordRotation      = 217
)

// identifyAt is where in page 0x89 (SAT-3, 12.4.2) the answer lies.
const identifyAt = 60

// pageIdentify returns the answer that the kernel keeps since Linux 5.5, or "".
func pageIdentify(scsi *dir) string {
	page := scsi.bytes("vpd_pg89", identifyAt+identifySize)
	if len(page) < identifyAt+identifySize || page[1] != 0x89 {
		return ""
	}
	return identifyOf(page[identifyAt:])
}

// identifyOf returns an answer, or "" for one that says nothing.
func identifyOf(answer string) string {
	if len(answer) < identifySize || strings.Trim(answer[:identifySize], "\x00") == "" {
		return ""
	}
	return answer[:identifySize]
}

func identifyWord(answer string, i int) uint64 {
	return uint64(answer[2*i]) | uint64(answer[2*i+1])<<8
}

// identifyText reads a string, the bytes of whose words are swapped.
func identifyText(answer string, from, to int) string {
	out := make([]byte, 0, 2*(to-from))
	for i := from; i < to; i++ {
		out = append(out, answer[2*i+1], answer[2*i])
	}
	return cutNUL(string(out))
}

// ataFeatures are the command sets of words 82 and 83 with a switch in 85 and 86.
var ataFeatures = [...]struct {
	supported, enabled int
	bit                uint
	name               string
}{
	{wordCommands1, wordEnabled1, 5, "WRITE_CACHE"},
	{wordCommands1, wordEnabled1, 10, "FEATURE_SET_HPA"},
	{wordCommands1, wordEnabled1, 3, "FEATURE_SET_PM"},
	{wordCommands1, wordEnabled1, 1, "FEATURE_SET_SECURITY"},
	{wordCommands1, wordEnabled1, 0, "FEATURE_SET_SMART"},
	{wordCommands2, wordEnabled2, 9, "FEATURE_SET_AAM"},
	{wordCommands2, wordEnabled2, 5, "FEATURE_SET_PUIS"},
	{wordCommands2, wordEnabled2, 3, "FEATURE_SET_APM"},
}

// ataID describes a disk by what it answers to IDENTIFY.
func (s *subject) ataID(answer string) {
	at := func(word int) uint64 { return identifyWord(answer, word) }
	modelText := identifyText(answer, wordModel, wordModelEnd)
	model := word(modelText, 40)
	serial := word(identifyText(answer, wordSerial, wordSerialEnd), 20)
	s.set("ID_ATA", "1")
	s.set("ID_TYPE", ataType(at(wordConfiguration)))
	s.set("ID_BUS", "ata")
	s.set("ID_MODEL", model)
	s.set("ID_MODEL_ENC", encode(modelText))
	s.set("ID_REVISION", word(identifyText(answer, wordRevision, wordRevisionEnd), 8))
	if serial != "" {
		s.set("ID_SERIAL", model+"_"+serial)
		s.set("ID_SERIAL_SHORT", serial)
	} else {
		s.set("ID_SERIAL", model)
	}
	for i := range ataFeatures {
		f := &ataFeatures[i]
		if at(f.supported)>>f.bit&1 == 0 {
			continue
		}
		enabled := at(f.enabled) >> f.bit & 1
		s.set("ID_ATA_"+f.name, "1")
		s.set("ID_ATA_"+f.name+"_ENABLED", decimal(enabled))
		s.ataLevels(f.name, enabled == 1, at)
	}
	if at(wordCommands2)&1 == 1 {
		s.set("ID_ATA_DOWNLOAD_MICROCODE", "1")
	}
	if sata := at(wordSATA); sata != 0 && sata != 0xffff {
		s.set("ID_ATA_SATA", "1")
		if sata>>2&1 == 1 {
			s.set("ID_ATA_SATA_SIGNAL_RATE_GEN2", "1")
		}
		if sata>>1&1 == 1 {
			s.set("ID_ATA_SATA_SIGNAL_RATE_GEN1", "1")
		}
	}
	switch speed := at(wordRotation); {
	case speed == 1:
		s.set("ID_ATA_ROTATION_RATE_RPM", "0")
	case speed >= 0x401 && speed <= 0xfffe:
		s.set("ID_ATA_ROTATION_RATE_RPM", decimal(speed))
	}
	if at(wordWWN)&0xf000 == 0x5000 {
		wwn := "0x" + hex4(at(wordWWN)) + hex4(at(wordWWN+1)) + hex4(at(wordWWN+2)) + hex4(at(wordWWN+3))
		s.set("ID_WWN", wwn)
		s.set("ID_WWN_WITH_EXTENSION", wwn)
	}
	if c := at(wordConfiguration); c == 0x848a || c == 0x844a || at(wordCommands2)&0xc004 == 0x4004 {
		s.set("ID_ATA_CFA", "1")
	}
}

// ataLevels sets what some feature sets are set to.
func (s *subject) ataLevels(feature string, enabled bool, at func(int) uint64) {
	prefix := "ID_ATA_" + feature
	switch feature {
	case "FEATURE_SET_SECURITY":
		state := at(wordSecurity)
		s.set(prefix+"_ERASE_UNIT_MIN", decimal(at(wordEraseTime)*2))
		if enabled {
			level := "high"
			if state>>8&1 == 1 {
				level = "maximum"
			}
			s.set(prefix+"_LEVEL", level)
		}
		if state>>5&1 == 1 {
			s.set(prefix+"_ENHANCED_ERASE_UNIT_MIN", decimal(at(wordEnhancedErase)*2))
		}
		for i, name := range [...]string{"_LOCKED", "_FROZEN", "_EXPIRE"} {
			if state>>(2+uint(i))&1 == 1 {
				s.set(prefix+name, "1")
			}
		}
	case "FEATURE_SET_AAM":
		s.set(prefix+"_VENDOR_RECOMMENDED_VALUE", decimal(at(wordAcoustic)>>8))
		s.set(prefix+"_CURRENT_VALUE", decimal(at(wordAcoustic)&0xff))
	case "FEATURE_SET_APM":
		if enabled {
			s.set(prefix+"_CURRENT_VALUE", decimal(at(wordPowerLevel)&0xff))
		}
	}
}

// ataType: a device that takes packets says what it is as SCSI does.
func ataType(configuration uint64) string {
	if configuration>>15&1 == 0 {
		return "disk"
	}
	switch configuration >> 8 & 0x1f {
	case 0, 5:
		return "cd"
	case 1:
		return "tape"
	case 7:
		return "optical"
	}
	return "generic"
}
