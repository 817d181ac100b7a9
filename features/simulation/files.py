"""The three folders of the raw zone, as the sources would deliver them, dirt and all."""

import numpy as np

from features.contract.paths import Location
from features.simulation import dirt
from features.simulation.bgzip import bgzip
from features.simulation.disease import GENOMIC_WEIGHTS
from features.simulation.genomes import PANEL_SITES, SITES, Contig, missing_calls, rsid
from features.simulation.images import Photographs, Pixels, dicom_file, draw_uid, taken_days
from features.simulation.people import ANCESTRIES, Ints, People, Study, iso, spell
from features.simulation.records import Events
from features.simulation.vcf import vcf_header, vcf_lines

PERSON_COLUMNS = "person_id,birth_date,sex,ancestry,observation_start,observation_end"
EVENT_COLUMNS = "person_id,date,code,value,unit,text"
SEX_TEXTS = (("M", "male"), ("F", "female"))
EARLIER_ERROR = 0.05


def write_genomics(
    folder: Location, people: People, contigs: list[Contig], rng: np.random.Generator
) -> list[dirt.Counts]:
    """One VCF per contig; the sample ids carry an aliquot suffix."""
    samples = [f"{people.ids[i]}-01A" for i in np.flatnonzero(people.has_genome)]
    planted = []
    for contig in contigs:
        missing = missing_calls((len(samples), len(contig.positions)), rng)
        lines, counts = dirt.plant_variants(vcf_lines(contig, missing), rng)
        text = vcf_header(samples) + b"\n".join(lines) + b"\n"
        (folder / f"{contig.name}.vcf.gz").write_bytes(bgzip(text))
        planted.append(counts)
    return planted


def write_scores(folder: Location, contigs: list[Contig], rng: np.random.Generator) -> None:
    """What an earlier study found of the panel: the true weights, and its own error. It names now ALT, now REF
    as the allele with the effect."""
    rows = ["rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight"]
    for site in PANEL_SITES:
        contig, place = contigs[site // SITES], site % SITES
        weight = GENOMIC_WEIGHTS.get(site, 0.0) + rng.normal(0, EARLIER_ERROR)
        alleles = (contig.alternatives[place], contig.reference[place])
        effect, other, sign = (*alleles, 1) if rng.random() < 0.5 else (*alleles[::-1], -1)
        where = (rsid(site), contig.name.removeprefix("chr"), str(contig.positions[place]))
        rows.append("\t".join([*where, effect, other, f"{sign * weight:.4f}"]))
    about = "#pgs_id=EARLIER\n#trait_reported=type 2 diabetes (simulated)\n#genome_build=GRCh38\n"
    (folder / "EARLIER.txt").write_bytes((about + "\n".join(rows) + "\n").encode())


def write_clinical(
    folder: Location, people: People, events: Events, rng: np.random.Generator
) -> list[dirt.Counts]:
    """`persons.csv` in the order of the people, `events.csv` in the order of time."""
    persons, person_counts = dirt.plant_persons(_person_rows(people, rng), rng)
    rows, event_counts = dirt.plant_events(_event_rows(people, events, rng), rng)
    (folder / "persons.csv").write_bytes(_lines(PERSON_COLUMNS, persons))
    (folder / "events.csv").write_bytes(_lines(EVENT_COLUMNS, rows))
    return [person_counts, event_counts]


def write_imaging(
    folder: Location, people: People, photographs: Photographs, study: Study, rng: np.random.Generator
) -> dirt.Counts:
    """One DICOM file per image, in folders whose names mean nothing."""
    owners = np.flatnonzero(people.has_image)
    taken = taken_days(len(owners), study.index_date, rng)
    good = [
        _image(people, owner, day, pixels, rng)
        for owner, day, pixels in zip(owners, taken, photographs.pixels, strict=True)
    ]
    fresh, anonymous = (
        [_image(people, owners[n], taken[n], photographs.pixels[n], rng, named) for n in range(count)]
        for count, named in ((dirt.IMAGE_DIRT["unreadable"], True), (dirt.IMAGE_DIRT["no_patient_id"], False))
    )
    bad, counts = dirt.plant_images(good, fresh, anonymous, rng)
    numbers = 10_000_000 + rng.choice(80_000_000, len(good) + len(bad), replace=False)
    for number, data in zip(numbers, [*good, *bad], strict=True):
        (folder / str(number) / f"{number % 7 + 1}.dcm").write_bytes(data)
    return counts


def _image(
    people: People, owner: np.int64, day: np.int64, pixels: Pixels, rng: np.random.Generator, named: bool = True
) -> bytes:
    uids = (draw_uid(rng), draw_uid(rng), draw_uid(rng))
    patient_id = spell(people.ids[owner], rng) if named else None
    return dicom_file(pixels, patient_id, int(people.birth[owner]), int(day), uids)


def _person_rows(people: People, rng: np.random.Generator) -> list[str]:
    fields = zip(
        (spell(person_id, rng) for person_id in people.ids),
        map(iso, people.birth),
        (SEX_TEXTS[female][rng.random() < 0.1] for female in people.female.astype(int)),
        (ANCESTRIES[number] for number in people.ancestry),
        map(iso, people.observed_from),
        map(iso, people.observed_to),
        strict=True,
    )
    return [",".join(row) for row in fields]


def _event_rows(people: People, events: Events, rng: np.random.Generator) -> list[str]:
    order = np.lexsort((events.person, events.day))
    dates = _dates(events.day)
    columns = (events.person, events.day, events.code, events.value, events.unit, events.text)
    return [
        f"{spell(people.ids[person], rng)},{dates[day]},{code},{'' if value != value else value},{unit},{text}"
        for person, day, code, value, unit, text in zip(*(c[order].tolist() for c in columns), strict=True)
    ]


def _dates(days: Ints) -> dict[int, str]:
    return {int(day): iso(day) for day in np.unique(days)}


def _lines(header: str, rows: list[str]) -> bytes:
    return ("\n".join([header, *rows]) + "\n").encode()
