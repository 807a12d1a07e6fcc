"""What has changed since a run is said in a line each."""

from pipelines.environment import differences, environment


def test_nothing_differs_from_itself_and_each_change_is_one_line():
    now = environment()
    assert differences(now, now) == [] and now["threads"] >= 1 and now["processor"]
    [torch] = [pin for pin in now["packages"] if pin.startswith("torch==")]
    others = [pin for pin in now["packages"] if pin != torch]
    lines = differences(now | {"threads": 99, "packages": ["torch==0.1", *others[1:]]}, now)
    assert lines[0] == f"threads was 99, is {now['threads']}"
    assert f"torch was 0.1, is {torch.partition('==')[2]}" in lines
    assert f"{others[0].partition('==')[0]} was None, is {others[0].partition('==')[2]}" in lines
    assert len(lines) == 3
