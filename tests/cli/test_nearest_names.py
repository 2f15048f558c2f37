"""A name that is nearly right: one line with the nearest one, from the command line and from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import call
from support.run_folders import chosen_genotype, search_folder

import scansearch
from scansearch.errors import InputError
from scansearch.files.regular import similar
from scansearch.text import choices, nearest

COMMANDS = {
    "strategy": ("run --strategy drats", "unknown strategy 'drats' (did you mean 'darts'? allowed: localmamba"),
    "relaxation": ("run --set relaxation=softmx", "unknown relaxation 'softmx' (did you mean 'softmax'?"),
    "space": ("run --space vmi8", "unknown space 'vmi8' (did you mean 'vim8'?"),
    "variant": ("run --variant tyni", "has no variant 'tyni' (did you mean 'tiny'?"),
    "data": ("run --data digit", "unknown data 'digit' (did you mean 'digits'?"),
    "data with a path": ("run --data foldr:pets", "unknown data 'foldr:pets' (did you mean 'folder:PATH'?"),
    "preset": ("run --augment lite", "unknown preset 'lite' (did you mean 'light'?"),
    "device": ("run --device cdua", "unknown device 'cdua' (did you mean 'cuda'?"),
    "setting": ("run --set alphas.rl=1", "unknown key 'alphas.rl' (did you mean 'lr'?"),
    "model": ("train localvim_tyni", "'localvim_tyni' is unknown (did you mean 'localvim_tiny'?)"),
    "run folder": ("train runs/secnd", "'runs/secnd' is unknown (did you mean 'runs/second'?)"),
    "folder of a run": ("derive runs/frist", "runs/frist: No such file or directory (did you mean 'runs/first'?)"),
    "format": ("export localvim_tiny --format onx --out x.onnx", "unknown format 'onx' (did you mean 'onnx'?"),
    "picture": ("plot runs/first --kind pathss", "unknown kind 'pathss' (did you mean 'paths'?"),
    "measure": ("derive runs/first --k 1 --pareto 2 --measure flop", "is not in the costs (did you mean 'flops'?"),
    "split": ("evaluate runs/first --split tset", "unknown split 'tset' (did you mean 'test'?"),
    "precision": ("evaluate runs/first --mixed-precision fb16", "'fb16' is unknown (did you mean 'bf16'?"),
    "task": ("published --task segmnt", "unknown task 'segmnt' (did you mean 'segment'?"),
    "candidate": ("derive runs/first --k 1 --require vv", "unknown scan direction 'vv'"),
    "scan set": ("train uniform:vmamba5 --space vim8", "did you mean 'vmamba4'? a list such as h,v_flip"),
    "timm": ("train timm:test_vti --data digits", "(did you mean 'timm:test_vit'?)"),
    "timm to measure": ("bench models --device cpu --model test_vti", "is unknown to timm (did you mean 'test_vit'?)"),
    "command": ("trian runs/first", "No such command 'trian'. Did you mean 'train'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    for name in ("first", "second"):
        search_folder(folder / "runs" / name)
    return folder


@pytest.mark.parametrize(("command", "message"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_command_names_the_nearest(
    command: str,
    message: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    code, out, err = call(capsys, *command.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_python_names_the_nearest_option_and_values_take_one_line() -> None:
    with pytest.raises(InputError, match=r"unknown key 'epoch' \(did you mean 'epochs'\? allowed: "):
        scansearch.search("vim8", epoch=3)
    with pytest.raises(InputError, match=r"unknown key 'batchsize' \(did you mean 'batch_size'\?"):
        scansearch.train(chosen_genotype(), data="digits", batchsize=3)
    wrong = {
        r"^Genotype: family: input should be 'local_vim' or 'local_vmamba', found 'vim'$": {"family": "vim"},
        r"^Genotype: layers: layer 0: unknown scan direction 'hh'": {"layers": (("hh",),)},
        r"^Genotype: unknown key 'layer' \(did you mean 'layers'\?": {"layer": ()},
    }
    for message, fields in wrong.items():
        with pytest.raises(InputError, match=message) as caught:
            scansearch.Genotype(**({"family": "local_vim", "layers": (("h",),)} | fields))
        assert "\n" not in str(caught.value)


def test_what_is_far_from_everything_gets_no_hint() -> None:
    assert nearest("zzz", ["darts", "gdas"]) is None
    assert choices("zzz", ["darts", "gdas"]) == "(allowed: darts, gdas)"
    assert choices("DARTS", ["darts"]) == "(did you mean 'darts'? allowed: darts)"
    assert choices("darts", ["darts"], ", or a file") == "(allowed: darts, or a file)"
    assert similar("/no/such/folder/file") == ""
