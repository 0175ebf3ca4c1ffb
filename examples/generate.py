"""A text of the demo model: made in this process, then by two ranks on this machine."""

from dsv4_tp import Ask, launch, load

ASK = Ask("It was a cold morning. Lena was in the forest.", max_tokens=60, temperature=0)


def main() -> None:
    """Print the text as it comes, then once more as a whole, with what it cost."""
    with load("demo") as model:
        for piece in model.stream(ASK):
            print(piece.text, end="", flush=True)
        print()

    with launch("demo", hosts=["localhost", "localhost"]) as client:
        answer = client.generate(ASK)
        stats = answer.finish.stats
        print(answer.text)
        print(f"{stats.generated_tokens} tokens, {stats.tokens_per_s:.0f}/s, {answer.reason}")


if __name__ == "__main__":
    main()
