"""What `encode` may hold: options that tell how a film looks, and none by which ffmpeg touches another file."""

from fractions import Fraction

import pytest

from longtake.models.encode_options import check_encode_options, check_timecode

ALLOWED = [
    "-c:v libx264 -crf 16 -pix_fmt yuv420p",
    "-c:v libx264 -preset slow -crf 18 -tune film -profile:v high -level 4.1",
    "-c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le -vendor apl0 -alpha_bits 16",
    "-c:v libvpx-vp9 -pix_fmt yuva420p -auto-alt-ref 0 -b:v 200k -row-mt 1 -deadline good -cpu-used 2",
    "-c:v libx265 -x265-params hdr10=1:master-display=G(1,2)B(3,4)R(5,6)WP(7,8)L(9,1):max-cll=9,5 -tag:v hvc1",
    "-c:v prores_ks -timecode 01:00:00:00",
    "-c:v libx264 -flags +ildct+ilme -x264-params tff=1:slices=4",
    "-color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv",
    "-metadata:s:v:0 rotate=90 -movflags +faststart+write_colr -flags +cgop -bf -1 -b:v:0 4M",
    "-vf scale=1920:-2:flags=lanczos,setsar=1,format=yuv420p",
    "-filter:v crop=iw-4:ih-4,eq=brightness=0.06",
    "-aspect 16:9 -g 30 -sws_flags lanczos+accurate_rnd",
]

REFUSED = [
    ("-i /etc/passwd", "-i is not an option that jobs may give"),
    ("-c:v libx264 -y /films/other.mp4", "-y is not an option that jobs may give"),
    ("-c:v libx264 /films/other.mp4", "'/films/other.mp4' is no option, as in -crf"),
    ("other.mp4", "'other.mp4' is no option"),
    ("-f null", "-f is not an option"),
    ("-f tee [f=mp4]/films/other.mp4", "-f is not an option"),
    ("-passlogfile /films/x -pass 1", "-passlogfile is not an option"),
    ("-vstats_file /films/x", "-vstats_file is not an option"),
    ("-report -crf 1", "-report has no value but '-crf'"),
    ("-attach /etc/passwd", "-attach is not an option"),
    ("-dump_attachment:t /films/x", "-dump_attachment:t is not an option"),
    ("-filter_complex movie=/etc/passwd", "-filter_complex is not an option"),
    ("-filter_script:v /etc/passwd", "-filter_script:v is not an option"),
    ("-/vf /films/graph", "'-/vf' is no option"),
    ("-init_hw_device opencl", "-init_hw_device is not an option"),
    ("-map_metadata 1", "-map_metadata is not an option"),
    ("-sdp_file /films/x", "-sdp_file is not an option"),
    ("-progress /films/x", "-progress is not an option"),
    ("-fpre /films/x", "-fpre is not an option"),
    ("-crf", "-crf has no value"),
    ("-c:v -crf 18", "-c:v has no value but '-crf'"),
    ("-c:v ../../x", "write a word or a number"),
    ("-preset /etc/passwd", "write a word or a number"),
    ("-flags +pass1", "-flags may not be 'pass1'"),
    ("-x264-params crf=3:stats=/films/x", "-x264-params may not hold 'stats=/films/x'"),
    ("-x264-params qpfile=x", "-x264-params may not hold 'qpfile=x'"),
    ("-x265-params csv=x", "-x265-params may not hold 'csv=x'"),
    ("-x265-params analysis-save=x", "may not hold 'analysis-save=x'"),
    ("-vf movie=/etc/passwd", "the filter 'movie' is not one that jobs may give"),
    ("-vf scale=2:2,movie=x", "the filter 'movie'"),
    ("-vf null;amovie=x", "the filter 'amovie'"),
    ("-vf lut3d=x.cube", "the filter 'lut3d'"),
    ("-vf drawtext=textfile=/etc/passwd", "the filter 'drawtext'"),
    ("-vf metadata=print:file=/films/x", "the filter 'metadata'"),
    ("-vf frei0r=x", "the filter 'frei0r'"),
    ("-vf eq=/brightness=/etc/passwd", "names a file"),
    ("-vf scale=2:2:/flags=x", "names a file"),
    ("-vf eq=brightness='1,movie=x'", "holds a quote"),
    ("-vf null[a];[a]movie=x", "holds a quote, a backslash or a bracket"),
    ("-vf scale=2\\,movie", "holds a quote, a backslash"),
    ("-metadata title", "write it as key=value"),
]


@pytest.mark.parametrize("options", ALLOWED)
def test_options_that_tell_how_a_film_looks_are_allowed(options: str) -> None:
    check_encode_options(tuple(options.split(" ")))


@pytest.mark.parametrize(("options", "sentence"), REFUSED, ids=[options for options, _ in REFUSED])
def test_what_could_touch_another_file_is_refused_by_name(options: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^encode: ") as refusal:
        check_encode_options(tuple(options.split(" ")))
    assert sentence in str(refusal.value)
    assert "; " in str(refusal.value)


@pytest.mark.parametrize(
    ("timecode", "rate", "sentence"),
    [
        (
            "01:00:00;00",
            "25",
            "-timecode is '01:00:00;00', which leaves out numbers as 30000/1001 and 60000/1001 frames",
        ),
        ("01:00:00:25", "25", "-timecode is '01:00:00:25', which is none at 25 frames a second"),
        ("1:0:0:0", "25", "-timecode is '1:0:0:0', which is none at 25 frames a second"),
    ],
)
def test_a_timecode_that_ffmpeg_would_leave_out_is_refused(timecode: str, rate: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^encode: ") as refusal:
        check_timecode(("-c:v", "prores_ks", "-timecode", timecode), Fraction(rate))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("timecode", "rate"),
    [
        ("01:00:00;02", "30000/1001"),
        ("01:00:00.59", "60000/1001"),
        ("01:00:00:29", "30000/1001"),
        ("10:00:00:23", "24"),
    ],
)
def test_a_timecode_of_the_rate_is_taken(timecode: str, rate: str) -> None:
    check_timecode(("-c:v", "prores_ks", "-timecode", timecode), Fraction(rate))
