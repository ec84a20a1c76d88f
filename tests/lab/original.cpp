// A video call's camera side as the system did it that camd's call listener takes the place of: ffmpeg copies the camera's
// JPEGs into a pipe, and every 200 ms a Qt program decodes the newest in full, scales it, encodes it, and sends it as
// Base64 text in a QString.
//
//   original call DEVICE HOST PORT   for ever
//   original picture FRAMES FILE...  its work on each JPEG, so many times; prints the nanoseconds of CPU for one
#include <QtCore/QBuffer>
#include <QtCore/QCoreApplication>
#include <QtCore/QDataStream>
#include <QtCore/QFile>
#include <QtGui/QImage>
#include <QtCore/QProcess>
#include <QtNetwork/QTcpSocket>
#include <QtCore/QTimer>
#include <cstdio>
#include <ctime>
#include <vector>

static const int INTERVAL = 200; // ms
static const int QUALITY = 30;
static const QSize SIZE(160, 120);
static const qint32 LOGIN = 1, VIDEO_DATA = 57;

struct Message {
	QString sender, receiver, content;
	qint32 type;

	QByteArray toByteArray() const
	{
		QByteArray bytes;
		QDataStream stream(&bytes, QIODevice::WriteOnly);
		stream << sender << receiver << content << type;
		return bytes;
	}
};

static QByteArray message(const QByteArray &jpeg)
{
	QImage image;
	if (!image.loadFromData(jpeg, "JPEG"))
		qFatal("no picture in %d bytes", int(jpeg.size()));
	QImage scaled = image.scaled(SIZE, Qt::KeepAspectRatio);
	QByteArray data;
	QBuffer buffer(&data);
	buffer.open(QIODevice::WriteOnly);
	if (!scaled.save(&buffer, "JPEG", QUALITY))
		qFatal("no JPEG");
	QString base64 = data.toBase64();
	return Message{ "camera", "caller", base64, VIDEO_DATA }.toByteArray();
}

// The newest whole JPEG of what ffmpeg writes.
class Pictures {
public:
	void add(const QByteArray &bytes)
	{
		buffer += bytes;
		for (;;) {
			int start = buffer.indexOf(QByteArrayLiteral("\xFF\xD8"));
			if (start < 0)
				return;
			int end = buffer.indexOf(QByteArrayLiteral("\xFF\xD9"), start);
			if (end < 0)
				return;
			newest = buffer.mid(start, end - start + 2);
			buffer.remove(0, end + 2);
		}
	}

	QByteArray newest;

private:
	QByteArray buffer;
};

static int call(const QString &device, const QString &host, quint16 port)
{
	QProcess ffmpeg;
	Pictures pictures;
	QTcpSocket socket;
	QTimer timer;

	QObject::connect(&ffmpeg, &QProcess::readyReadStandardOutput, [&] { pictures.add(ffmpeg.readAllStandardOutput()); });
	QObject::connect(&ffmpeg, QOverload<int, QProcess::ExitStatus>::of(&QProcess::finished), [] { qFatal("ffmpeg ended"); });
	QObject::connect(&socket, &QTcpSocket::disconnected, [] { QCoreApplication::exit(0); });
	QObject::connect(&timer, &QTimer::timeout, [&] {
		if (pictures.newest.isEmpty())
			return;
		socket.write(message(pictures.newest));
		socket.flush();
		pictures.newest.clear();
	});

	socket.connectToHost(host, port);
	if (!socket.waitForConnected())
		qFatal("%s", qPrintable(socket.errorString()));
	socket.write(Message{ "camera", "", "", LOGIN }.toByteArray());
	ffmpeg.setProcessChannelMode(QProcess::ForwardedErrorChannel);
	ffmpeg.start("ffmpeg", { "-loglevel", "error", "-f", "v4l2", "-input_format", "mjpeg", "-video_size", "640x480", "-i",
				 device, "-f", "image2pipe", "-vcodec", "copy", "-" });
	timer.start(INTERVAL);
	int code = QCoreApplication::exec();
	ffmpeg.disconnect();
	ffmpeg.kill();
	ffmpeg.waitForFinished();
	return code;
}

static long long processor_time()
{
	timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int picture(int frames, const QStringList &files)
{
	std::vector<QByteArray> jpegs;
	for (const QString &name : files) {
		QFile file(name);
		if (!file.open(QIODevice::ReadOnly))
			qFatal("%s", qPrintable(file.errorString()));
		jpegs.push_back(file.readAll());
	}
	long long begun = 0;
	// What is made once is made in the first two.
	for (int i = -2; i < frames; i++) {
		if (i == 0)
			begun = processor_time();
		for (const QByteArray &jpeg : jpegs)
			message(jpeg);
	}
	printf("%lld\n", (processor_time() - begun) / frames / (long long)jpegs.size());
	return 0;
}

int main(int argc, char **argv)
{
	QCoreApplication application(argc, argv);
	QStringList arguments = application.arguments();
	if (arguments.size() == 5 && arguments[1] == "call")
		return call(arguments[2], arguments[3], arguments[4].toUShort());
	if (arguments.size() >= 4 && arguments[1] == "picture")
		return picture(arguments[2].toInt(), arguments.mid(3));
	fprintf(stderr, "usage: original call DEVICE HOST PORT | picture FRAMES FILE...\n");
	return 2;
}
