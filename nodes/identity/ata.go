package identity

import "strings"

// IDENTIFY DEVICE and IDENTIFY PACKET DEVICE answer with 256 little-endian words (ACS-3,
// 7.12); these are the words that names are made of.
const (
	identifySize      = 512
	wordConfiguration = 0  // bit 15: it takes packets; bits 8 to 12: then its SCSI type
	wordSerial        = 10 // ten words
	wordRevision      = 23 // of the firmware, up to wordModel
	wordModel         = 27
	wordModelEnd      = 47
	wordWWN           = 108 // and the three behind it, the highest first
	wordRotation      = 217 // turns in a minute
)

// identifyAt is where in page 0x89 (SAT-3, 12.4.2) the answer lies.
const identifyAt = 60

// ata describes a disk by what it answers to IDENTIFY, if it is one that does. For one
// that was not asked yet, but could be, .WAIT says so.
func (s *subject) ata() {
	scsi := s.scsiDevice()
	if scsi == nil {
		return
	}
	q := readInquiry(scsi)
	level := scsi.value("scsi_level")
	// Of optical drives those that follow SPC-3 or later; of USB disks those that stay.
	if strings.TrimRight(q.vendor, " ") != "ATA" && !(q.kind == "cd" && level >= "6" && level <= "9") &&
		!(strings.Contains(s.e.Devpath, "/usb") && s.base.value("removable") == "0") {
		return
	}
	answer := ""
	if page := scsi.bytes("vpd_pg89", identifyAt+identifySize); len(page) > identifyAt && page[1] == 0x89 {
		answer = page[identifyAt:] // the kernel keeps it since Linux 5.5
	} else if fd := s.wholeFd(); fd >= 0 {
		if answer = askIdentify(fd); answer == "" {
			answer = keptIdentify(fd)
		}
	} else if s.p.Open != nil {
		// The rules give no names by SCSI then: the answer would take their place.
		s.set(".WAIT", "1")
	}
	if len(answer) == identifySize && strings.Trim(answer, "\x00") != "" {
		s.ataID(answer)
		// 0x14 in SPC: a disk with zones that its host manages. It has a link by its SCSI name too.
		if scsi.value("type") == "20" { // zoned
			s.set(".ZONED", word(pageNames(scsi, &q).serial, 255))
		}
	}
}

// identifyText reads a string, the bytes of whose words are swapped.
func identifyText(answer string, from, to int) string {
	out := []byte(answer[2*from : 2*to])
	for i := 0; i < len(out); i += 2 {
		out[i], out[i+1] = out[i+1], out[i]
	}
	return cutNUL(string(out))
}

// ataID describes a disk by its answer.
func (s *subject) ataID(answer string) {
	at := func(i uint64) uint64 { return uint64(answer[2*i]) | uint64(answer[2*i+1])<<8 }
	modelText := identifyText(answer, wordModel, wordModelEnd)
	model, serial := word(modelText, 40), word(identifyText(answer, wordSerial, wordSerial+10), 20)
	id := model
	if serial != "" {
		id += "_" + serial
	}
	kind := "disk"
	if c := at(wordConfiguration); c>>15 == 1 { // it takes packets
		switch kind = "generic"; c >> 8 & 0x1f {
		case 0, 5:
			kind = "cd"
		case 1:
			kind = "tape"
		case 7:
			kind = "optical"
		}
	}
	s.setAll("ID_", "ATA TYPE BUS MODEL MODEL_ENC REVISION SERIAL SERIAL_SHORT", []string{
		"1", kind, "ata", model, encode(modelText), word(identifyText(answer, wordRevision, wordModel), 8), id, serial})
	// 1 is a disk that does not turn. What is no speed by the standard is left out.
	switch speed := at(wordRotation); {
	case speed == 1:
		s.set("ID_ATA_ROTATION_RATE_RPM", "0")
	case speed >= 0x401 && speed <= 0xfffe:
		s.set("ID_ATA_ROTATION_RATE_RPM", decimal(speed))
	}
	// A name begins with its kind, of which 5 is that with a maker's number from IEEE. Words
	// that a disk does not have are 0.
	if at(wordWWN)>>12 == 5 {
		wwn := "0x" + hex4(at(wordWWN)) + hex4(at(wordWWN+1)) + hex4(at(wordWWN+2)) + hex4(at(wordWWN+3))
		s.setAll("ID_WWN", " _WITH_EXTENSION", []string{wwn, wwn})
	}
}
