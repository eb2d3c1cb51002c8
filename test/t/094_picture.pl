# The picture of a group, as a browser shows it: every text lies in its box, none
# overlaps another, all can be read against their ground in light and in dark, and
# no line crosses a card.  For that the pictures are laid out by Chromium, and
# test/browser/measure.js measures them there.
#
# A measuring tool that sees nothing would let everything pass: so pictures that
# were spoilt on purpose are measured too, and each must be found out.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($chromium) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};

plan skip_all => 'there is no chromium to look at pictures with (test/install-deps installs it)'
  unless $chromium;

# ---------------------------------------------------------------------------
# The pictures, and spoilt ones
# ---------------------------------------------------------------------------

system("$top/test/tools/picture", $dir) == 0 or die "test/tools/picture failed\n";
my %picture = map { m{([^/]+)\.svg$} => slurp_file($_) } glob("$dir/*.svg");
my @drawn = sort keys %picture;

is_deeply(
	[ grep { $picture{$_} =~ /[^\x20-\x7e\n]/ } @drawn ],
	[], 'pictures are plain ASCII');
is_deeply(
	[ grep { $picture{$_} =~ /NaN|\b(?:width|height|rx|r)="-|<script|\@import/ } @drawn ],
	[], 'no impossible sizes, no scripts');
is_deeply(
	[ grep { $picture{$_} =~ m{(?:href="(?!#lh-)|url\((?!#lh-)|https?://(?!www\.w3\.org/2000/svg")[^<]*")} } @drawn ],
	[], 'nothing from elsewhere');

is(PostgreSQL::Test::Utils::slurp_file("$top/docs/paths.svg"), $picture{five},
	'the picture in docs/paths.md is one of them');

# Change a picture in one place; it must be there.
my %kind_of;

sub spoil
{
	my ($name, $kind, $from, $to) = @_;
	my $text = $picture{five};

	$text =~ s/$from/ref $to ? $to->() : $to/e or die "there is nothing to spoil for \"$name\"\n";
	$picture{"spoilt: $name"} = $text;
	$kind_of{"spoilt: $name"} = $kind;
	return;
}

spoil('a text longer than its box', 'outside', qr/>holds the lease</,
	'>holds the lease and very much more than that<');
spoil('a text above another', 'overlap', qr/>primary</,
	' dy="-18">primary<');
spoil('a text without a box', 'orphan', qr/data-in="\d+">primary</, '>primary<');
spoil('a name that is not escaped', 'xml', qr/>primary</, '>pri<mary<');
spoil('an element of somebody else', 'foreign', qr/>primary</, '><a>primary</a><');
# the first rule is that of the light, the last that of the dark
spoil('grey on grey in the light', 'contrast', qr/(<style>.*?\.lh \.mu)\{color:#\w+\}/,
	sub { "$1\{color:#a0a0a0}" });
spoil('grey on grey in the dark', 'contrast', qr/(<style>.*\.lh \.mu)\{color:#\w+\}/,
	sub { "$1\{color:#606060}" });
spoil('half a picture', 'beyond', qr/height="\d+" viewBox="0 0 \d+ \d+"/,
	'height="400" viewBox="0 0 1340 400"');
spoil('a line over a card', 'wire', qr/class="bd wire" d="M\d+ \d+/, 'class="bd wire" d="M400 170');
spoil('a label over a card', 'collision', qr/class="pill bd" x="\d+" y="\d+"/,
	'class="pill bd" x="300" y="180"');

# ---------------------------------------------------------------------------
# What the browser sees
# ---------------------------------------------------------------------------

sub in_javascript
{
	my ($text) = @_;
	$text =~ s/([^\x20-\x7e]|[\\'<])/sprintf '\\x%02x', ord $1/ge;
	return "'$text'";
}

# Returns the findings, by picture: [kind, what].
sub look
{
	my ($scheme) = @_;
	my $pictures = join ",\n",
	  map { '[' . in_javascript($_) . ',' . in_javascript($picture{$_}) . ']' }
	  sort keys %picture;
	my ($out, $err, %found);

	append_to_file("$dir/$scheme.html",
		"<!DOCTYPE html>\n<meta charset='utf-8'>\n<body>\n<script>\nconst pictures = [$pictures];\n"
		  . slurp_file("$top/test/browser/measure.js")
		  . "</script>\n");
	IPC::Run::run(
		[
			$chromium, '--headless=new', '--no-sandbox', '--disable-gpu',
			'--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking',
			"--user-data-dir=$dir/profile-$scheme",
			'--blink-settings=preferredColorScheme=' . ($scheme eq 'dark' ? 0 : 1),
			'--window-size=3200,1200', '--dump-dom', "file://$dir/$scheme.html"
		],
		'>', \$out, '2>', \$err, IPC::Run::timeout(180));
	my ($lines) = $out =~ m{<pre>(.*)</pre>}s or diag("chromium says: $out\n$err");
	$lines //= '';
	foreach my $line (split /\n/, $lines)
	{
		my ($name, $kind, $what) = split /\t/, $line, 3;

		$what =~ s/&lt;/</g;
		$what =~ s/&gt;/>/g;
		$what =~ s/&nbsp;/ /g;
		$what =~ s/&amp;/&/g;
		push @{ $found{$name} }, [ $kind, $what ];
	}
	return \%found;
}

# Of one picture, what was found of a kind.
sub of_kind
{
	my ($found, $kind) = @_;
	return map { $_->[1] } grep { $_->[0] eq $kind } @{ $found || [] };
}

foreach my $scheme ('light', 'dark')
{
	my $found = look($scheme);

	is((of_kind($found->{page}, 'scheme'))[0], $scheme, "the browser prefers $scheme");
	foreach my $name (@drawn)
	{
		my @wrong =
		  map { "$_->[0]: $_->[1]" }
		  grep { $_->[0] ne 'text' && $_->[0] ne 'measured' } @{ $found->{$name} };

		is(join("\n", splice @wrong, 0, 10), '', "$scheme: nothing is wrong with $name");
		like((of_kind($found->{$name}, 'measured'))[0] // '',
			qr/^[1-9]\d* texts, [1-9]/, "$scheme: $name was measured");
		note("$name: ", of_kind($found->{$name}, 'measured'));
	}
	foreach my $name (sort keys %kind_of)
	{
		next if $name =~ /in the (light|dark)$/ && $scheme ne $1;
		isnt(scalar of_kind($found->{$name}, $kind_of{$name}), 0, "$scheme: $name is found out");
	}

	my %said = map { $_ => 1 } of_kind($found->{hostile_five}, 'text');
	ok($said{q{<a&"'>}}, "$scheme: a hostile name is shown as it is");
	ok($said{'&amp;&#60;]]><!--'}, "$scheme: and is not taken for markup");
	ok($said{'gnirts desrever'}, "$scheme: nor does it turn its neighbours around");
	%said = map { $_ => 1 } of_kind($found->{fifty}, 'text');
	ok($said{'unreachable from 47 of 47'}, "$scheme: a dead node of fifty says so on its card");
	ok($said{'5 min old'}, "$scheme: old reports say how old");
	like((of_kind($found->{fifty}, 'measured'))[0], qr/ 4 lines/,
		"$scheme: of 150 broken paths, those with a cause of their own are lines");
}

done_testing();
